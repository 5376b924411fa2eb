//! Fetching an image over HTTPS into a file of lbctl's own, from which it goes into the pool: what
//! was fetched before a cut is kept and continued, and nothing is used before all of it has the
//! digest.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{CHUNK, HEAD, ImageError, ImageErrorKind, ImageFacts, MOST, digest, qcow2};
use crate::config::{BaseImage, ImageSource, ImageUrl};
use crate::text::sanitize::sanitize_line;

const CONNECT: Duration = Duration::from_secs(20);
/// For each read: a server that says nothing for so long is as good as gone.
const SILENCE: Duration = Duration::from_secs(30);
const REDIRECTS: u32 = 5;
/// Cuts in a row, with nothing fetched in between.
const CUTS: u32 = 5;
const AFTER_A_CUT: Duration = Duration::from_secs(1);

/// Is told how much there is of how much; false: stop.
pub type Watch<'w> = dyn FnMut(u64, Option<u64>) -> bool + 'w;

/// The first bytes of what is there.
pub(super) fn peek(url: &ImageUrl, source: &ImageSource) -> Result<ImageFacts, ImageError> {
    let range = format!("bytes=0-{}", HEAD - 1);
    let mut answer = ask(&agent(), url, &range, source)?;
    let mut head = Vec::new();
    answer
        .body
        .by_ref()
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(|error| ImageError::unreadable(source, error, UNREACHABLE))?;
    let capacity = qcow2::judge(&head, answer.whole, source)?;
    Ok(ImageFacts {
        size: answer.whole,
        capacity,
    })
}

/// All of it, with the digest.
pub(super) fn fetch(
    url: &ImageUrl,
    image: &BaseImage,
    watch: &mut Watch<'_>,
) -> Result<(File, PathBuf), ImageError> {
    let source = &image.source;
    let path = cache(source)?.join(format!("{}.part", image.sha256));
    let mut file = open(&path, source)?;
    let written = |error: std::io::Error| {
        let what = format!("{source} cannot be kept in {}: {error}", path.display());
        let hint = "make room there, or name another folder in XDG_CACHE_HOME";
        ImageError::new(ImageErrorKind::Unreadable, what, hint)
    };
    // Another lbctl that fetches the same is waited for.
    while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if !watch(0, None) {
            return Err(ImageError::stopped());
        }
        sleep(AFTER_A_CUT);
    }
    let agent = agent();
    let (mut cuts, mut whole) = (0, None);
    loop {
        let have = file.seek(SeekFrom::End(0)).map_err(written)?;
        if whole == Some(have) {
            break;
        }
        match proceed(&agent, url, source, &mut file, have, watch) {
            Ok(size) => {
                let end = file.seek(SeekFrom::End(0)).map_err(written)?;
                whole = Some(size.unwrap_or(end));
                cuts = if end > have { 0 } else { cuts + 1 };
            }
            Err(Cut::End(error)) => return Err(error),
            Err(Cut::Disk(error)) => return Err(written(error)),
            Err(Cut::Again(error)) => {
                let end = file.seek(SeekFrom::End(0)).map_err(written)?;
                cuts = if end > have { 0 } else { cuts + 1 };
                if cuts > CUTS {
                    return Err(error);
                }
                sleep(AFTER_A_CUT * cuts);
            }
        }
        if cuts > CUTS {
            let said = "the server does not send all of it";
            return Err(ImageError::unreadable(source, said, UNREACHABLE));
        }
    }
    let found = digest(&mut file).map_err(written)?;
    if found != image.sha256 {
        let _ = std::fs::remove_file(&path); // or the next run continues it
        return Err(ImageError::digest(source, &found, &image.sha256));
    }
    Ok((file, path))
}

const UNREACHABLE: &str = "try it with `curl -fLO URL` on this machine: lbctl uses the proxy in https_proxy, and \
                           the certificates of the system (or SSL_CERT_FILE); or fetch it yourself and give it as \
                           `file`";

/// Why there is no more of it for now.
enum Cut {
    /// Another try may help.
    Again(ImageError),
    End(ImageError),
    Disk(std::io::Error),
}

/// Fetches what is missing. Gives the size of the whole.
fn proceed(
    agent: &Agent,
    url: &ImageUrl,
    source: &ImageSource,
    file: &mut File,
    have: u64,
    watch: &mut Watch<'_>,
) -> Result<Option<u64>, Cut> {
    let asked = ask(agent, url, &format!("bytes={have}-"), source);
    let mut answer = match asked {
        Err(error) if error.kind == ImageErrorKind::Unfit => return Err(Cut::End(error)),
        other => other.map_err(Cut::Again)?,
    };
    if answer.is_nothing {
        // Either what is here is all, which the digest says, or it is of something else.
        return Ok(None);
    }
    let mut at = answer.begins;
    if at != have {
        file.set_len(0).map_err(Cut::Disk)?;
        at = 0;
    }
    file.seek(SeekFrom::Start(at)).map_err(Cut::Disk)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        if !watch(at, answer.whole) {
            return Err(Cut::End(ImageError::stopped()));
        }
        let read = answer.body.read(&mut buffer);
        let count =
            read.map_err(|error| Cut::Again(ImageError::unreadable(source, error, UNREACHABLE)))?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if at == 0 && count > 0 {
            // Before gigabytes of something else are fetched.
            let head = bytes.get(..HEAD.min(count)).unwrap_or_default();
            if count >= HEAD {
                qcow2::judge(head, answer.whole, source).map_err(Cut::End)?;
            }
        }
        if count == 0 {
            return Ok(answer.whole);
        }
        file.write_all(bytes).map_err(Cut::Disk)?;
        at += count as u64;
        if at > MOST {
            let what = format!("{source} is larger than any image");
            let hint = "check the address";
            return Err(Cut::End(ImageError::new(ImageErrorKind::Unfit, what, hint)));
        }
    }
}

struct Answer {
    /// There is nothing from there on.
    is_nothing: bool,
    /// Where in the whole it begins.
    begins: u64,
    whole: Option<u64>,
    body: Box<dyn Read>,
}

fn ask(
    agent: &Agent,
    url: &ImageUrl,
    range: &str,
    source: &ImageSource,
) -> Result<Answer, ImageError> {
    let asked = agent.get(url.expose()).header("Range", range);
    let answer = asked
        .call()
        .map_err(|error| ImageError::unreadable(source, words(&error), UNREACHABLE))?;
    let status = answer.status().as_u16();
    let header = |name: &str| answer.headers().get(name)?.to_str().ok();
    let (begins, whole) = match status {
        200 => (0, header("content-length").and_then(|n| n.parse().ok())),
        206 => {
            let range = header("content-range").and_then(content_range);
            let Some((begins, whole)) = range else {
                let said = "the server answers with another part than was asked for";
                return Err(ImageError::unreadable(source, said, UNREACHABLE));
            };
            (begins, whole)
        }
        416 => (0, None),
        other => {
            let said = format!("the server answers with the status {other}");
            return Err(ImageError::unreadable(source, said, UNREACHABLE));
        }
    };
    if whole.is_some_and(|whole| whole > MOST) {
        let what = format!("{source} is larger than any image");
        let hint = "check the address";
        return Err(ImageError::new(ImageErrorKind::Unfit, what, hint));
    }
    let body = answer.into_body().into_reader();
    Ok(Answer {
        is_nothing: status == 416,
        begins,
        whole,
        body: Box::new(body),
    })
}

/// `bytes 512-1023/2048`, or `/*` where the server does not know the whole.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (begins, _) = range.split_once('-')?;
    Some((begins.parse().ok()?, whole.parse().ok()))
}

/// Without addresses in it: what follows a `?` may be a signature.
fn words(error: &ureq::Error) -> String {
    let said = match error {
        ureq::Error::BadUri(_) => "it is no URL".to_owned(),
        ureq::Error::RequireHttpsOnly(_) => {
            "it leads to an address without TLS, which is not taken".to_owned()
        }
        ureq::Error::HostNotFound => "its host name is not known here".to_owned(),
        ureq::Error::TooManyRedirects => "it leads from one address to the next".to_owned(),
        ureq::Error::StatusCode(status) => {
            format!("the server answers with the status {status}")
        }
        ureq::Error::ConnectProxyFailed(_) => "the proxy does not let it through".to_owned(),
        other => other.to_string(),
    };
    sanitize_line(&said, 300)
}

fn agent() -> Agent {
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots = roots
        .iter()
        .map(|der| Certificate::from_der(der).to_owned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(REDIRECTS)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("lbctl/", env!("CARGO_PKG_VERSION")))
        // Bytes as they are, or ranges would mean others.
        .accept_encoding("identity")
        .build()
        .new_agent()
}

fn cache(source: &ImageSource) -> Result<PathBuf, ImageError> {
    let given = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    let folder = given("XDG_CACHE_HOME")
        .or_else(|| given("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| Path::new("/var/cache").to_owned())
        .join("lbctl");
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(&folder).map_err(|error| {
        let what = format!(
            "{source} cannot be kept: {}: {}",
            folder.display(),
            crate::config::reason(&error)
        );
        let hint = "name a folder that can be written to in XDG_CACHE_HOME";
        ImageError::new(ImageErrorKind::Unreadable, what, hint)
    })?;
    Ok(folder)
}

fn open(path: &Path, source: &ImageSource) -> Result<File, ImageError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let opened = options
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path);
    opened.map_err(|error| {
        let said = crate::config::reason(&error);
        let what = format!("{source} cannot be kept: {}: {said}", path.display());
        let hint = "name a folder that can be written to in XDG_CACHE_HOME";
        ImageError::new(ImageErrorKind::Unreadable, what, hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_where_it_begins() {
        assert_eq!(
            content_range("bytes 512-1023/2048"),
            Some((512, Some(2048)))
        );
        assert_eq!(content_range("bytes 0-1/*"), Some((0, None)));
        for bad in [
            "",
            "bytes */2048",
            "512-1023/2048",
            "bytes x-1/2",
            "bytes 1/2",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
