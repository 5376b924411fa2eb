//! Ctrl-C and SIGTERM. What they do depends on what lbctl does: while nothing is being changed it
//! ends at once; within a step that changes the host or the guest, that step is completed first,
//! unless a second signal comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// What lbctl is doing, and so what a signal does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// End at once, with these words where there are any. `exit`: where the end has a meaning other
    /// than "interrupted".
    AtOnce { words: String, exit: Option<Exit> },
    /// Complete the present step first. These words are printed if a second signal ends it.
    AfterStep { words: String },
}

/// Handles the signals from now on, until lbctl ends.
#[derive(Clone)]
pub struct Interrupt(Arc<Mutex<InterruptState>>);

struct InterruptState {
    manner: Manner,
    asked: Option<Exit>,
}

impl Interrupt {
    /// `words`: what an end at once has to say, before anything was begun.
    #[must_use]
    pub fn listen(out: &Output, words: &str) -> Self {
        let manner = Manner::AtOnce {
            words: words.to_owned(),
            exit: None,
        };
        let this = Self(Arc::new(Mutex::new(InterruptState {
            manner,
            asked: None,
        })));
        // Without it a signal ends lbctl, too, with fewer words.
        if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) {
            let (this, out) = (this.clone(), out.clone());
            std::thread::spawn(move || {
                for signal in signals.forever() {
                    this.handle(signal, &out);
                }
            });
        }
        this
    }

    pub fn set(&self, manner: Manner) {
        self.state().manner = manner;
    }

    /// Ends at once from now on, saying this.
    pub fn at_once(&self, words: &str) {
        self.set(Manner::AtOnce {
            words: words.to_owned(),
            exit: None,
        });
    }

    /// Whether a signal came while a step was carried out, and how lbctl ends then.
    #[must_use]
    pub fn asked(&self) -> Option<Exit> {
        self.state().asked
    }

    fn state(&self) -> MutexGuard<'_, InterruptState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, signal: i32, out: &Output) {
        let ended = if signal == SIGINT {
            Exit::Interrupted
        } else {
            Exit::Terminated
        };
        let mut state = self.state();
        let (words, exit) = match &state.manner {
            Manner::AtOnce { words, exit } => (words.clone(), exit.unwrap_or(ended)),
            Manner::AfterStep { words } if state.asked.is_some() => (words.clone(), ended),
            Manner::AfterStep { .. } => {
                state.asked = Some(ended);
                out.say("lbctl completes the present step and then stops; a second signal ends it at once");
                return;
            }
        };
        // With the lock held, so that the working thread does not begin another step.
        out.leave();
        if !words.is_empty() {
            out.failure(&Failure::stopped(exit, words));
        }
        std::process::exit(i32::from(exit as u8));
    }
}
