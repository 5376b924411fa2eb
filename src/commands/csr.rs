//! `lbctl csr`, and the signed certificate that comes back (`renew --certificate`). The private key
//! is made here and stays on this machine, in a file beside the configuration that its owner alone
//! may read, until it is with its certificate in the seed. Nothing of it is printed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::files::{create_owned, write_owned};
use super::{CommandError, CommandResult, connect, load_at};
use crate::cert::{self, ClientPair};
use crate::cli::Cli;
use crate::config::{
    CertificateSource, Config, MAX_INPUT, Needs, PatroniClient, RequestedCertificate, pair_file,
    request_key_file,
};
use crate::exit::{Exit, Failure, MessageId};
use crate::output::Output;
use crate::output::json::{Answer, CsrDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::desired::current_seed;
use crate::reconcile::observe::{Ask, observe};
use crate::secret::Secret;

pub(super) fn run(cli: &Cli, out: &Output) -> CommandResult {
    // A certificate that has expired is no reason not to ask for another one.
    let config = load_at(cli, out, None, Needs::None)?.one("lbctl csr", out)?;
    let (_, requested) = signed_elsewhere(&config)?;
    let path = beside(&config, &request_key_file(config.name.as_str()));
    let key = match read(&path) {
        Ok(key) => key,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = cert::new_key(requested.key_algorithm).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    MessageId::CertificateNotIssued,
                    error.to_string(),
                    "",
                )
            })?;
            create_owned(&path, key.expose().as_bytes())?;
            key
        }
        Err(error) => return Err(unreadable(&path, &error).into()),
    };
    let request = ClientPair::request_for(&key).map_err(|error| {
        let said = format!("{} holds {}", path.display(), error.message);
        let help = "remove that file, and `lbctl csr` makes another key";
        Failure::new(Exit::Usage, MessageId::CertificateUnfit, said, help)
    })?;
    Ok(Box::new(CsrReport {
        name: config.name.to_string(),
        key_file: path,
        request,
    }))
}

struct CsrReport {
    name: String,
    key_file: PathBuf,
    request: String,
}

impl CommandReport for CsrReport {
    fn exit(&self) -> Exit {
        Exit::Done
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Csr(CsrDocument {
            name: self.name.clone(),
            key_file: self.key_file.display().to_string(),
            request: self.request.clone(),
        }))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        let said = format!(
            "{}: the private key is in {}, mode 0600; have the request signed for client authentication, and give the \
             result to `lbctl renew --certificate FILE`",
            self.name,
            self.key_file.display()
        );
        vec![
            TextPart::Data(self.request.clone()),
            TextPart::Said(said.into()),
        ]
    }
}

/// Takes a signed certificate: with its key it is kept beside the configuration, from where it
/// comes into the seed and the guest.
pub(super) fn take(cli: &Cli, out: &Output, file: &Path) -> Result<(), CommandError> {
    let config =
        load_at(cli, out, None, Needs::Certificate)?.one("lbctl renew --certificate", out)?;
    let (client, requested) = signed_elsewhere(&config)?;
    let name = config.name.as_str();
    let text = read(file).map_err(|error| unreadable(file, &error))?;
    let key_path = beside(&config, &request_key_file(name));
    let waiting = match read(&key_path) {
        Ok(key) => Some(key),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(&key_path, &error).into()),
    };
    let now = OffsetDateTime::now_utc();
    let pair = match belonging(waiting.as_ref(), &text, client, requested) {
        // Not of the request: perhaps the key in use has got another certificate.
        Err(unfit) if unfit.part == cert::Part::Pair => {
            // A host that does not answer has no part in what is wrong with the file.
            let in_use = key_in_use(cli, out, &config).unwrap_or(None);
            let again = in_use.map(|key| ClientPair::given(&key, text.expose(), &client.ca));
            again.and_then(Result::ok).ok_or(unfit)
        }
        other => other,
    };
    let pair = pair.and_then(|pair| pair.check(&client.ca, now).map(|()| pair));
    let pair = pair.map_err(|error| {
        let said = format!("{}: this is {}", file.display(), error.message);
        let hint = error.hint.unwrap_or_default();
        Failure::new(Exit::Usage, MessageId::CertificateUnfit, said, hint)
    })?;
    let path = beside(&config, &pair_file(name));
    write_owned(&path, pair.pem().expose().as_bytes())?;
    if waiting.is_some_and(|key| ClientPair::given(&key, text.expose(), &client.ca).is_ok()) {
        // It is in the other file now. What stays would be taken for that of an open request.
        let _ = fs::remove_file(&key_path);
    }
    out.say(format!(
        "{name}: certificate taken, serial {}, until {}; kept with its key in {}",
        pair.facts().serial,
        pair.not_after().date(),
        path.display()
    ));
    Ok(())
}

/// With the key of the open request, else with the one that is kept.
fn belonging(
    waiting: Option<&Secret>,
    text: &Secret,
    client: &PatroniClient,
    requested: &RequestedCertificate,
) -> Result<ClientPair, cert::GivenError> {
    let with = |key: &Secret| ClientPair::given(key, text.expose(), &client.ca);
    let kept = requested.pair.as_ref().map(ClientPair::key_pem);
    match (waiting, kept) {
        (Some(waiting), Some(kept)) => with(waiting).or_else(|error| with(kept).map_err(|_| error)),
        (Some(key), None) | (None, Some(key)) => with(key),
        (None, None) => Err(cert::GivenError {
            part: cert::Part::Pair,
            message: "a certificate for which there is no key: no request is open".into(),
            hint: Some("`lbctl csr` makes a key and prints the request for it".into()),
        }),
    }
}

/// The key in the seed of the load balancer that is there.
fn key_in_use(cli: &Cli, out: &Output, config: &Config) -> Result<Option<Secret>, Failure> {
    let host = connect(cli, config, out)?;
    let observed = observe(config, &host, Ask::WhatIsNeeded)?;
    let pem = current_seed(&observed).and_then(|seed| seed.client_pem.as_ref());
    let pair = pem.and_then(|pem| ClientPair::from_pem(pem.expose()).ok());
    Ok(pair.map(|pair| pair.key_pem().clone()))
}

fn signed_elsewhere(config: &Config) -> Result<(&PatroniClient, &RequestedCertificate), Failure> {
    let not = |said: &str, help: &str| {
        let id = MessageId::CertificateNotRequested;
        Failure::new(Exit::Usage, id, format!("{}: {said}", config.name), help)
    };
    let Some(client) = config.haproxy.patroni_tls.client() else {
        return Err(not(
            "the nodes are asked without a client certificate (haproxy.patroni_tls)",
            "set patroni_tls = \"mutual\", which is the default, to have one",
        ));
    };
    match &client.source {
        CertificateSource::Requested(requested) => Ok((client, requested)),
        CertificateSource::Issued(issuing) => Err(not(
            &format!(
                "lbctl issues the certificate itself: ca_key is given ({})",
                issuing.ca_key.place()
            ),
            "remove ca_key from [haproxy.patroni_client] to have certificates signed elsewhere",
        )),
        CertificateSource::Given(_) => Err(not(
            "certificate and key of [haproxy.patroni_client] come from elsewhere, so lbctl requests and takes none",
            "remove both to have lbctl make the key; or put the new certificate into their files, and run `lbctl renew`",
        )),
    }
}

fn beside(config: &Config, name: &str) -> PathBuf {
    let folder = Path::new(&config.file).parent();
    folder.unwrap_or(Path::new("")).join(name)
}

/// A text that may be secret, of a bounded size.
fn read(path: &Path) -> std::io::Result<Secret> {
    if fs::metadata(path)?.len() > MAX_INPUT {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    let text = fs::read_to_string(path)?;
    Ok(Secret::new(text))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let said = format!("reading {}: {error}", path.display());
    Failure::new(
        Exit::Usage,
        MessageId::FileUnreadable,
        said,
        "correct the path, or let the user who runs lbctl read it",
    )
}
