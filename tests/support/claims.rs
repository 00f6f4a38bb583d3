// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest claims on its console: `TEST <guest> <name> ok`, `TEST <guest> <name> FAIL <why>` and, at its end,
//! `DONE <count>`.

/// The claims of one guest, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The names of those that hold.
    pub ok: Vec<String>,
    /// Those that do not: the name, and why.
    pub failed: Vec<(String, String)>,
}

impl Claims {
    /// Reads the claims of `guest` out of its lines.
    ///
    /// # Errors
    /// A sentence, when the guest did not finish, lost lines, or claimed nothing.
    pub fn read<'a>(guest: &str, lines: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut claims = Self { ok: Vec::new(), failed: Vec::new() };
        for line in lines {
            if let Some(count) = line.strip_prefix("DONE ") {
                let count: usize = count.trim().parse().map_err(|_| format!("`{line}` states no number"))?;
                return match claims.count() {
                    0 => Err(format!("{guest} claims nothing")),
                    seen if seen == count => Ok(claims),
                    seen => Err(format!("{guest} made {count} claims, {seen} of them came")),
                };
            }
            let Some(claim) = line.strip_prefix("TEST ").and_then(|rest| rest.strip_prefix(guest)) else { continue };
            let mut words = claim.trim_start().splitn(2, ' ');
            let name = words.next().unwrap_or_default().to_owned();
            match words.next().map(str::trim_end) {
                Some("ok") => claims.ok.push(name),
                verdict => claims.failed.push((name, verdict.unwrap_or("no verdict").to_owned())),
            }
        }
        Err(format!("{guest} did not finish: it made {} claims and said no DONE", claims.count()))
    }

    /// Returns how many claims there are.
    pub fn count(&self) -> usize {
        self.ok.len() + self.failed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Claims;

    #[test]
    fn complete_claims_are_read() {
        let lines = ["hello", "TEST canary memory ok", "TEST canary late FAIL 7 ticks", "DONE 2", "TEST canary x ok"];
        let claims = Claims::read("canary", lines).unwrap();
        assert_eq!(claims.ok, ["memory"]);
        assert_eq!(claims.failed, [("late".to_owned(), "FAIL 7 ticks".to_owned())]);
    }

    #[test]
    fn a_guest_that_did_not_finish_or_lost_a_line_or_was_silent_is_an_error() {
        for lines in [
            &["TEST canary memory ok"][..],
            &["TEST canary memory ok", "DONE 2"],
            &["DONE 0"],
            &["TEST other memory ok", "DONE 1"],
            &["TEST canary memory ok", "DONE x"],
            &[],
        ] {
            assert!(Claims::read("canary", lines.iter().copied()).is_err(), "{lines:?}");
        }
    }
}
