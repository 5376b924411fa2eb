//! Making the base volume from an image: once for all load balancers of that image, whoever of them
//! comes first.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Progress;
use crate::host::{
    HostError, HostErrorKind, HostResult, HostWriter, Operation, VolumeFacts, VolumeState,
};
use crate::image::{Image, ImageError};
use crate::reconcile::plan::{ImageStep, Step};

/// A volume that is not whole and has not grown for so long was left by a run that ended.
const LEFT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Another run may be faster, and then fail.
const TRIES: u32 = 3;

/// Brings the image into its volume, unless another run does.
pub(super) fn bring(
    step: &ImageStep,
    host: &impl HostWriter,
    progress: &mut dyn Progress,
) -> HostResult<()> {
    let text = Step::BringImage(step.clone()).to_string();
    let doing = Operation::BringImage {
        at: step.at.clone(),
        source: step.image.source.clone(),
    };
    let failed = |error: ImageError| {
        let said = HostError::new(HostErrorKind::Other, &doing, error.what);
        if error.hint.is_empty() {
            said
        } else {
            said.with_hint(error.hint)
        }
    };
    let mut tries = 0;
    loop {
        if is_there(step, host, progress)? {
            return Ok(());
        }
        let mut fetched = |done: u64, whole: Option<u64>| {
            progress.part(&text, done, whole.or(step.size));
            progress.stop().is_none()
        };
        let mut image = Image::obtain(&step.image, &mut fetched).map_err(failed)?;
        if image.capacity() != step.capacity {
            let said = "it is another one than it was when this was planned";
            return Err(HostError::new(HostErrorKind::Other, &doing, said));
        }
        let size = image.size();
        let mut sent = |done: u64| {
            progress.part(&text, done, Some(size));
            progress.stop().is_none()
        };
        match host.upload_image(&step.at, &mut image, &mut sent) {
            Err(error) if error.kind == HostErrorKind::Exists && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
            Ok(()) => {
                fits(step, host, &doing)?;
                image.discard();
                return Ok(());
            }
        }
    }
}

/// Whether the volume holds the image. One that another run fills is waited for; one that nobody
/// fills any more is removed.
fn is_there(
    step: &ImageStep,
    host: &impl HostWriter,
    progress: &mut dyn Progress,
) -> HostResult<bool> {
    let mut seen: Option<u64> = None;
    let mut since = Instant::now();
    loop {
        let VolumeState::Present(facts) = host.volume(&step.at)? else {
            return Ok(false);
        };
        if facts.is_whole_image() {
            return Ok(true);
        }
        if seen != Some(facts.allocation) {
            if seen.is_none() {
                progress.note("another run brings it already, or has left it unfinished: looking");
            }
            (seen, since) = (Some(facts.allocation), Instant::now());
        } else if since.elapsed() >= LEFT {
            host.delete_volume(&step.at)?;
            return Ok(false);
        }
        if progress.stop().is_some() {
            let doing = format!("waiting for volume {}", step.at);
            let said = "stopped by a signal";
            return Err(HostError::new(HostErrorKind::Other, doing, said));
        }
        sleep(LOOK_AGAIN);
    }
}

/// libvirt must see what was brought as an image: in a pool of block devices it does not.
fn fits(step: &ImageStep, host: &impl HostWriter, doing: &Operation) -> HostResult<()> {
    let state = host.volume(&step.at)?;
    if state.present().is_some_and(VolumeFacts::is_whole_image) {
        return Ok(());
    }
    let _ = host.delete_volume(&step.at); // the reason is reported
    let said = format!("pool {} does not keep it as a qcow2 file", step.at.pool);
    Err(HostError::new(HostErrorKind::Other, doing, said)
        .with_hint("name a pool of files (type dir, fs or netfs) as volume.base_volume_pool"))
}
