// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors that show the author's own lines. All that is wrong with a file is collected and shown together.

use std::fmt;
use std::io::{self, IsTerminal};
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A place in the text, in bytes.
pub type Span = Range<usize>;

/// A value and where its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> At<T> {
    /// Joins a value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// One error: what is wrong, where, and a way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    title: String,
    primary: Option<(Span, String)>,
    others: Vec<(Span, String)>,
    help: Vec<String>,
}

impl Diagnostic {
    /// Starts an error with what is wrong.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), primary: None, others: Vec::new(), help: Vec::new() }
    }

    /// Shows the place that is at fault; `label` may be empty.
    pub fn at(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.primary = Some((span.clone(), label.into()));
        self
    }

    /// Shows the other party.
    pub fn and(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.others.push((span.clone(), label.into()));
        self
    }

    /// Says a way out.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }
}

/// All that is wrong with one file.
#[derive(Clone, Debug)]
pub struct Report {
    path: PathBuf,
    text: String,
    errors: Vec<Diagnostic>,
}

/// Whether a report may use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Never,
    /// Escape sequences for a terminal.
    Ansi,
}

impl Colour {
    /// Chooses colour for a terminal, unless NO_COLOR is set.
    pub fn of_stderr() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stderr().is_terminal() && !plain { Self::Ansi } else { Self::Never }
    }
}

impl Report {
    /// Joins errors with the file they are about; `text` is what their places point into.
    pub fn new(path: &Path, text: &str, mut errors: Vec<Diagnostic>) -> Self {
        errors.sort_by_key(|error| error.primary.as_ref().map_or(0, |(span, _)| span.start));
        Self { path: path.to_owned(), text: text.to_owned(), errors }
    }

    /// Returns how many errors there are.
    pub fn error_count(&self) -> usize {
        self.errors.len()
    }

    /// Returns what would be shown on a terminal, ending without a newline.
    pub fn render(&self, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Never => Renderer::plain().decor_style(DecorStyle::Ascii),
            Colour::Ansi => Renderer::styled(),
        };
        // The titles are sentences with figures in them: they are not to be cut.
        let renderer = renderer.term_width(160);
        let mut shown: Vec<String> = self.errors.iter().map(|error| renderer.render(&[self.group(error)])).collect();
        shown.push(match self.errors.len() {
            1 => format!("{}: 1 error; nothing was written", self.path.display()),
            count => format!("{}: {count} errors; nothing was written", self.path.display()),
        });
        shown.join("\n\n")
    }

    fn group<'a>(&'a self, error: &'a Diagnostic) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(error.title.as_str()));
        let path = self.path.display().to_string();
        let mut snippet = Snippet::source(self.text.as_str()).path(path);
        if let Some((span, label)) = &error.primary {
            snippet = snippet.annotation(AnnotationKind::Primary.span(self.clip(span)).label(label.as_str()));
        }
        for (span, label) in &error.others {
            snippet = snippet.annotation(AnnotationKind::Context.span(self.clip(span)).label(label.as_str()));
        }
        if error.primary.is_some() {
            group = group.element(snippet);
        }
        group.elements(error.help.iter().map(|help| Level::HELP.message(help.as_str())))
    }

    /// Keeps a place inside the text and on its first line, so that a long table is not shown in full.
    fn clip(&self, span: &Span) -> Span {
        let start = span.start.min(self.text.len());
        let end = span.end.clamp(start, self.text.len());
        let line = self.text.get(start..end).unwrap_or_default();
        start..start + line.find('\n').unwrap_or(line.len())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Colour::Never))
    }
}

impl std::error::Error for Report {}
