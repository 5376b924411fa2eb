//! What is found while a configuration is read: values with their places, problems and warnings
//! about them. A reader that finds a value wrong notes it and goes on; what it could not read is
//! [`Refused`], which exists only where a problem was noted.

use std::cell::RefCell;
use std::ops::Range;

use super::report::{Draft, ProblemId};
use super::types::InvalidValue;

/// The problems and warnings so far.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    pub problems: RefCell<Vec<Draft>>,
    pub warnings: RefCell<Vec<Draft>>,
}

/// A value with the place it came from.
#[derive(Debug, Clone)]
pub(super) struct Spanned<T> {
    pub value: T,
    pub key: String,
    pub span: Range<usize>,
}

impl<T> Spanned<T> {
    /// Another value from the same place.
    pub fn with<U>(&self, value: U) -> Spanned<U> {
        Spanned {
            value,
            key: self.key.clone(),
            span: self.span.clone(),
        }
    }

    pub fn into_value(self) -> T {
        self.value
    }
}

/// There is no value, and a problem that is noted says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(());

impl Refused {
    /// `schema` has noted it: a key that is missing, or a value of another type.
    pub const BY_SCHEMA: Self = Self(());
}

/// A value that was read. One that may be left out, or be switched off, is `Read<Option<T>>`.
pub(super) type Read<T> = Result<T, Refused>;

/// All of them. Each is read, even where one before it is refused.
pub(super) fn all<T>(reads: impl Iterator<Item = Read<T>>) -> Read<Vec<T>> {
    let reads: Vec<Read<T>> = reads.collect();
    reads.into_iter().collect()
}

impl Diagnostics {
    /// Something wrong at a place. `message` is a whole sentence without its stop.
    pub fn problem(
        &self,
        id: ProblemId,
        key: &str,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Refused {
        self.problems.borrow_mut().push(Draft {
            id,
            key: key.into(),
            span,
            message: message.into(),
            help: help.into(),
            other: None,
        });
        Refused(())
    }

    /// Something wrong with a value. `what` stands behind its key.
    pub fn refuse<T>(&self, given: &Spanned<T>, what: &str, help: impl Into<String>) -> Refused {
        self.invalid(given, InvalidValue::new(what, help))
    }

    pub fn invalid<T>(&self, given: &Spanned<T>, invalid: InvalidValue) -> Refused {
        let InvalidValue { id, what, help } = invalid;
        let message = format!("`{}` {what}", given.key);
        self.problem(id, &given.key, Some(given.span.clone()), message, help)
    }

    /// Two places that do not go together: the caret at the first, the label at the other.
    pub fn conflict<T, U>(
        &self,
        given: &Spanned<T>,
        other: &Spanned<U>,
        what: &str,
        label: &str,
        help: &str,
    ) -> Refused {
        self.problems.borrow_mut().push(Draft {
            id: ProblemId::Conflict,
            key: given.key.clone(),
            span: Some(given.span.clone()),
            message: format!("`{}` {what}", given.key),
            help: help.into(),
            other: Some((other.span.clone(), label.to_owned())),
        });
        Refused(())
    }

    pub fn warn<T>(&self, given: &Spanned<T>, what: &str, help: &str) {
        self.warnings.borrow_mut().push(Draft {
            id: ProblemId::Advice,
            key: given.key.clone(),
            span: Some(given.span.clone()),
            message: format!("`{}` {what}", given.key),
            help: help.into(),
            other: None,
        });
    }

    /// Worth knowing of the file as a whole.
    pub fn warn_whole(&self, key: &str, message: &str, help: &str) {
        self.warnings.borrow_mut().push(Draft {
            id: ProblemId::Advice,
            key: key.into(),
            span: None,
            message: message.into(),
            help: help.into(),
            other: None,
        });
    }

    /// The value after a check; a refusal is noted.
    pub fn check<T, U>(
        &self,
        given: &Spanned<T>,
        check: impl FnOnce(&T) -> Result<U, InvalidValue>,
    ) -> Read<Spanned<U>> {
        match check(&given.value) {
            Ok(value) => Ok(given.with(value)),
            Err(invalid) => Err(self.invalid(given, invalid)),
        }
    }
}
