// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads typed values out of TOML and collects what is wrong with them, so that one run of the tool shows every mistake.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{At, Diagnostic, Span};
use super::schema::{self, Table};

/// A value of the file with its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// Where errors are collected.
pub type Errors = Vec<Diagnostic>;

/// A table of the file, whose keys are all known.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    table: &'a DeTable<'a>,
    schema: Table,
}

impl<'a> Fields<'a> {
    /// Takes a table and reports the keys that it cannot have.
    pub fn new(table: &'a DeTable<'a>, schema: Table, errors: &mut Errors) -> Self {
        for key in table.keys().filter(|key| !schema.keys.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            errors.push(
                Diagnostic::new(format!("unknown key `{name}` in {}", schema.name))
                    .at(&key.span(), "")
                    .help(schema::suggest(schema, name)),
            );
        }
        Self { table, schema }
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&'a Value<'a>> {
        debug_assert!(self.schema.keys.contains(&key), "{key} is missing in the schema");
        self.table.get(key)
    }

    /// Tells whether an unknown key was taken for this one, so that missing it is not worth a second error.
    pub fn is_misspelt(&self, key: &str) -> bool {
        let unknown = self.table.keys().map(|key| key.get_ref().as_ref()).filter(|key| !self.schema.keys.contains(key));
        unknown.into_iter().any(|unknown| schema::nearest(unknown, self.schema.keys) == Some(key))
    }

    /// Returns the place of a key.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.table.get_key_value(key).map(|(key, _)| key.span())
    }
}

/// Reports a value of the wrong type.
pub fn wrong_type<T>(value: &Value, what: &str, expected: &str, errors: &mut Errors) -> Option<T> {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    errors.push(
        Diagnostic::new(format!("`{what}` cannot be {found}")).at(&value.span(), "").help(format!("write {expected}")),
    );
    None
}

/// Reads a string.
pub fn string(value: &Value, what: &str, expected: &str, errors: &mut Errors) -> Option<At<String>> {
    match value.get_ref() {
        DeValue::String(text) => Some(At::new(text.to_string(), value.span())),
        _ => wrong_type(value, what, expected, errors),
    }
}

/// Reads true or false.
pub fn boolean(value: &Value, what: &str, errors: &mut Errors) -> Option<bool> {
    value
        .get_ref()
        .as_bool()
        .or_else(|| wrong_type(value, what, &format!("`{what} = true` or `{what} = false`"), errors))
}

/// Reads a whole number from 0 to `max`.
pub fn number(value: &Value, what: &str, max: u32, errors: &mut Errors) -> Option<At<u32>> {
    let DeValue::Integer(integer) = value.get_ref() else {
        return wrong_type(value, what, &format!("a whole number from 0 to {max}"), errors);
    };
    let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|number| *number <= max);
    if number.is_none() {
        errors.push(
            Diagnostic::new(format!("`{what}` cannot be {integer}"))
                .at(&value.span(), "")
                .help(format!("write a whole number from 0 to {max}")),
        );
    }
    Some(At::new(number?, value.span()))
}

/// Reads one of a few words.
pub fn word<T: Copy>(value: &Value, what: &str, words: &[(&str, T)], errors: &mut Errors) -> Option<T> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let expected = match names.as_slice() {
        [only] => format!("`{what} = \"{only}\"`"),
        _ => format!("one of the words {}", schema::list(&names)),
    };
    let text = string(value, what, &expected, errors)?;
    let found = words.iter().find(|(name, _)| *name == text.value);
    if found.is_none() {
        let error = Diagnostic::new(format!("`{what}` cannot be \"{}\"", text.value)).at(&text.span, "");
        errors.push(match schema::nearest(&text.value, &names) {
            Some(near) => error.help(format!("did you mean \"{near}\"?")),
            None => error.help(format!("write {expected}")),
        });
    }
    found.map(|(_, value)| *value)
}

/// Reads a string with a quantity in it by `parse`, whose error is the way out.
pub fn quantity(
    value: &Value,
    what: &str,
    parse: impl Fn(&str) -> Result<u64, String>,
    errors: &mut Errors,
) -> Option<At<u64>> {
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(integer) => {
            let help = match integer.radix() {
                16 => match u64::from_str_radix(integer.as_str(), 16) {
                    Ok(value) => format!("write it as a string: \"{}\"", super::units::show_address(value)),
                    Err(_) => "write it as a string".into(),
                },
                _ => parse(integer.as_str()).err().unwrap_or_default(),
            };
            let title = format!("`{what}` cannot be a bare number");
            errors.push(Diagnostic::new(title).at(&value.span(), "").help(help));
            return None;
        }
        _ => return wrong_type(value, what, "it as a string", errors),
    };
    match parse(&text) {
        Ok(number) => Some(At::new(number, value.span())),
        Err(help) => {
            let title = format!("`{what}` cannot be \"{text}\"");
            errors.push(Diagnostic::new(title).at(&value.span(), "").help(help));
            None
        }
    }
}
