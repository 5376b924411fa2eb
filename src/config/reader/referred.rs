//! Texts that may be kept elsewhere: in a file, or in a variable of the environment. What is secret
//! is read here alone.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use zeroize::Zeroize as _;

use super::{Section, join};
use crate::config::FILL_IN;
use crate::config::diagnostics::{Read, Refused, Spanned, all};
use crate::config::inputs::{Inputs, MAX_INPUT, reason};
use crate::config::keys::Kind;
use crate::config::report::{ProblemId, quoted};
use crate::config::types::InvalidValue;
use crate::secret::Secret;

/// Where a text is that may be taken from elsewhere.
#[derive(Clone)]
pub(in crate::config) enum Referred {
    Text(Secret),
    /// The place of the reference's target in the file is kept beside it.
    File(String, Range<usize>),
    Env(String, Range<usize>),
}

impl Referred {
    /// Its target; of a text, the text.
    pub fn place<T>(&self, of: &Spanned<T>) -> Spanned<()> {
        let place = of.with(());
        match self {
            Self::Text(_) => place,
            Self::File(_, span) | Self::Env(_, span) => Spanned {
                span: span.clone(),
                ..place
            },
        }
    }

    /// Without one line break at its end.
    pub fn read(&self, inputs: &dyn Inputs) -> Result<Secret, InvalidValue> {
        let unreadable = |invalid: InvalidValue| invalid.with_id(ProblemId::ReferenceUnreadable);
        let (content, source) = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path, _) => (read_file(inputs, path), format!("file {}", quoted(path))),
            Self::Env(name, _) => {
                let source = format!("the environment variable {}", quoted(name));
                (read_env(inputs, name), source)
            }
        };
        let mut bytes = content.map_err(unreadable)?;
        let secret = text_of(&bytes, &source);
        bytes.zeroize();
        secret
    }

    /// Whether it could be read now, as far as that is known without its content.
    pub fn ensure_there(&self, inputs: &dyn Inputs) -> Result<(), InvalidValue> {
        match self {
            Self::Text(_) => Ok(()),
            Self::File(path, _) => from_file(path, |path| inputs.ensure_readable(path)),
            Self::Env(name, _) => read_env(inputs, name).map(|mut value| value.zeroize()),
        }
    }

    /// Whether it is just not there, or not for this user: it may be kept elsewhere.
    pub fn is_elsewhere(&self, inputs: &dyn Inputs) -> bool {
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        match self {
            Self::Text(_) => false,
            Self::File(path, _) => {
                !path.is_empty()
                    && !path.starts_with('~')
                    && !path.contains(char::is_control)
                    && inputs
                        .file(Path::new(path))
                        .is_err_and(|error| matches!(error.kind(), NotFound | PermissionDenied))
            }
            Self::Env(name, _) => is_variable(name) && inputs.env(name).is_none(),
        }
    }
}

fn text_of(bytes: &[u8], source: &str) -> Result<Secret, InvalidValue> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        let what = format!("is taken from {source}, which is not UTF-8 text");
        InvalidValue::new(what, "give a text (PEM rather than DER)")
    })?;
    let cut = text.strip_suffix('\n').unwrap_or(text);
    let cut = cut.strip_suffix('\r').unwrap_or(cut);
    if cut.trim().is_empty() {
        let what = format!("is taken from {source}, which is empty");
        return Err(InvalidValue::new(
            what,
            "put the value there, or remove this line",
        ));
    }
    Ok(Secret::new(cut))
}

impl Section<'_> {
    /// A text, or what `{ file = … }` or `{ env = … }` refers to, without one line break at its
    /// end. `None`: it is not there, and nobody needs it ([`Needs`]).
    pub fn secret(&self, name: &str) -> Read<Option<Spanned<Secret>>> {
        self.read_referred(name, &self.referred(name)?)
    }

    /// The same after its check; the default stands for what nobody needs.
    pub fn secret_as<T: Default>(
        &self,
        name: &str,
        check: impl FnOnce(&Secret) -> Result<T, InvalidValue>,
    ) -> Read<Spanned<T>> {
        match self.secret(name)? {
            Some(secret) => self.diagnostics().check(&secret, check),
            None => Ok(self.here().with(T::default())),
        }
    }

    /// The same of a key that may be left out.
    pub fn optional_secret<T>(
        &self,
        name: &str,
        check: impl FnOnce(&Secret) -> Result<T, InvalidValue>,
    ) -> Read<Option<Spanned<T>>> {
        let given = self.secret_if_given(name)?;
        let checked = given.map(|secret| self.diagnostics().check(&secret, check));
        checked.transpose()
    }

    /// The same of a key that takes a list of such, too.
    pub fn secrets_as<T>(
        &self,
        name: &str,
        check: impl Fn(&Secret) -> Result<T, InvalidValue>,
    ) -> Read<Vec<Spanned<T>>> {
        let items = self.items(name);
        if items.is_empty() {
            return Ok(self.optional_secret(name, check)?.into_iter().collect());
        }
        let read = all(items.iter().map(|item| {
            let secret = match item.value {
                DeValue::String(text) => Some(item.with(Secret::new(text.as_ref()))),
                DeValue::Table(table) => {
                    let referred = self.reference(item, table)?;
                    self.read_referred(name, &referred.place(item).with(referred))?
                }
                _ => return Err(Refused::BY_SCHEMA),
            };
            let checked = secret.map(|secret| self.diagnostics().check(&secret, &check));
            checked.transpose()
        }));
        Ok(read?.into_iter().flatten().collect())
    }

    fn secret_if_given(&self, name: &str) -> Read<Option<Spanned<Secret>>> {
        match self.referred_if_given(name)? {
            Some(referred) => self.read_referred(name, &referred),
            None => Ok(None),
        }
    }

    /// `None`: it is not there, and nobody needs it.
    fn read_referred(
        &self,
        name: &str,
        referred: &Spanned<Referred>,
    ) -> Read<Option<Spanned<Secret>>> {
        let (reader, inputs) = (self.reader, self.reader.inputs);
        let is_needed = reader.needs.include(&join(&self.declared, name));
        match referred.value.read(inputs) {
            Ok(secret) => Ok(Some(referred.with(secret))),
            Err(invalid) if !is_needed && referred.value.is_elsewhere(inputs) => {
                let place = reader.place(referred);
                let said = format!("`{}` ({place}) {}", referred.key, invalid.what);
                reader.unread.borrow_mut().push(said);
                Ok(None)
            }
            Err(invalid) => Err(self.diagnostics().invalid(referred, invalid)),
        }
    }

    /// Whether there is a text, or a reference to one, however wrong.
    pub fn refers(&self, name: &str) -> Option<Spanned<()>> {
        let found = self.find(name)?;
        let blank = match found.value {
            DeValue::String(text) => text.is_empty(),
            DeValue::Table(table) => table.is_empty(),
            _ => false,
        };
        (!blank).then(|| found.with(()))
    }

    /// A text, or a reference to one, which is not read.
    pub fn referred(&self, name: &str) -> Read<Spanned<Referred>> {
        self.referred_if_given(name)?.ok_or(Refused::BY_SCHEMA)
    }

    fn referred_if_given(&self, name: &str) -> Read<Option<Spanned<Referred>>> {
        let Some(found) = self.find(name) else {
            return Ok(None);
        };
        let referred = match found.value {
            DeValue::Array(items) if items.is_empty() => return Ok(None),
            DeValue::String(text) if text.is_empty() => return Ok(None),
            DeValue::String(text) => Referred::Text(Secret::new(text.as_ref())),
            DeValue::Table(table) if table.is_empty() => return Ok(None),
            DeValue::Table(table) => self.reference(&found, table)?,
            _ => return Err(Refused::BY_SCHEMA),
        };
        if self.key(name)?.kind == Kind::Secret {
            self.watch(&found.with(&referred));
        }
        Ok(Some(referred.place(&found).with(referred)))
    }

    /// Warns of a secret that every user of the machine may read.
    fn watch(&self, secret: &Spanned<&Referred>) {
        match secret.value {
            Referred::Text(_) => {
                let mut first = self.reader.inline_secret.borrow_mut();
                first.get_or_insert_with(|| secret.with(()));
            }
            Referred::File(path, _) if self.reader.inputs.is_open_to_all(Path::new(path)) => {
                let what = format!(
                    "is in file {}, which every user of this machine can read",
                    quoted(path)
                );
                let help = format!("chmod 600 {path}");
                let place = secret.value.place(secret);
                self.diagnostics().warn(&place, &what, &help);
            }
            Referred::File(..) | Referred::Env(..) => {}
        }
    }

    fn reference<T>(&self, found: &Spanned<T>, table: &DeTable<'_>) -> Read<Referred> {
        let diagnostics = self.diagnostics();
        let mut entries = table.iter().map(|(key, value)| {
            (
                key.get_ref().as_ref(),
                value.get_ref().as_str(),
                value.span(),
            )
        });
        let (Some((kind @ ("file" | "env"), Some(target), span)), None) =
            (entries.next(), entries.next())
        else {
            let what =
                "is a table, which must have one `file` or one `env`, a text, and nothing else";
            let help = "write the text itself, or { file = \"path\" }, or { env = \"VARIABLE\" }";
            return Err(diagnostics.refuse(found, what, help));
        };
        let referred = if kind == "file" {
            Referred::File(target.to_owned(), span)
        } else {
            Referred::Env(target.to_owned(), span)
        };
        // Of the CA's key too, which is otherwise read by what issues alone.
        if kind == "file" && target == FILL_IN {
            let what = format!("is in file \"{FILL_IN}\", which is to be filled in");
            let help = "give the path of the file, which starts at the folder of the configuration";
            return Err(diagnostics.refuse(&referred.place(found), &what, help));
        }
        Ok(referred)
    }
}

fn read_file(inputs: &dyn Inputs, path: &str) -> Result<Vec<u8>, InvalidValue> {
    let content = from_file(path, |path| inputs.file(path))?;
    if content.len() as u64 > MAX_INPUT {
        let what = format!(
            "is taken from file {}, which is larger than 1 MiB",
            quoted(path)
        );
        return Err(InvalidValue::new(
            what,
            "name a file with the value and nothing else",
        ));
    }
    Ok(content)
}

/// What is done with the file that the configuration names.
fn from_file<T>(
    path: &str,
    open: impl FnOnce(&Path) -> std::io::Result<T>,
) -> Result<T, InvalidValue> {
    if path.is_empty() || path.contains(char::is_control) {
        let help = "write { file = \"path\" }, or the text itself without a table";
        return Err(InvalidValue::new(
            "is taken from a file, but not by a path",
            help,
        ));
    }
    open(Path::new(path)).map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound if path.starts_with('~') => {
                "write the whole path: `~` is not replaced here"
            }
            std::io::ErrorKind::NotFound => {
                "correct the path, which starts at the folder of the configuration"
            }
            std::io::ErrorKind::PermissionDenied => "let the user who runs lbctl read the file",
            _ => "name a file with the value in it",
        };
        InvalidValue::new(
            format!(
                "cannot be read from file {}: {}",
                quoted(path),
                reason(&error)
            ),
            help,
        )
    })
}

fn read_env(inputs: &dyn Inputs, name: &str) -> Result<Vec<u8>, InvalidValue> {
    if !is_variable(name) {
        return Err(InvalidValue::new(
            "is taken from the environment, but not by the name of a variable",
            "write { env = \"VARIABLE\" }, with letters, digits and _ alone",
        ));
    }
    let value = inputs.env(name).ok_or_else(|| {
        let what = format!(
            "is taken from the environment variable {}, which is not set",
            quoted(name)
        );
        InvalidValue::new(what, "set it, and see that it is exported")
    })?;
    Ok(value.into_encoded_bytes())
}

/// Whether a text may name a variable of the environment. What is something else may be the secret
/// itself.
pub(in crate::config) fn is_variable(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(fine) && !text.as_bytes()[0].is_ascii_digit()
}
