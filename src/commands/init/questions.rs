//! What `lbctl init --from-host` asks on a terminal. An answer that the configuration could not
//! have is not taken: `check` judges it at once, in its own words, and the question is asked again.

use std::path::PathBuf;

use clap::ValueEnum as _;
use time::OffsetDateTime;

use super::patroni::Nodes;
use super::{Draft, Slot};
use crate::cli::PatroniMode;
use crate::config::{self, FILL_IN, Problem, SystemInputs};
use crate::output::Output;

/// What is asked, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Name,
    Image,
    Pool,
    Network,
    Address,
    SshKey,
    Nodes,
    Nameserver,
    Tls,
    CaCertificate,
    CaKey,
}

const ALL: [Question; 11] = [
    Question::Name,
    Question::Image,
    Question::Pool,
    Question::Network,
    Question::Address,
    Question::SshKey,
    Question::Nodes,
    Question::Nameserver,
    Question::Tls,
    // What is wrong with the two together is seen at the second.
    Question::CaCertificate,
    Question::CaKey,
];

/// Why an answer is not taken, and what the answers are.
#[derive(Debug)]
struct NotTaken {
    why: String,
    help: String,
}

impl Question {
    fn text(self) -> &'static str {
        match self {
            Self::Name => "name of the load balancer",
            Self::Image => "image, as a volume",
            Self::Pool => "pool of the disk and the seed",
            Self::Network => "libvirt network",
            Self::Address => "address in it",
            Self::SshKey => "file of your public ssh key",
            Self::Nodes => "Patroni's nodes",
            Self::Nameserver => "nameserver that knows it",
            Self::Tls => "TLS of Patroni's REST API: off, server or mutual",
            Self::CaKey => "file of the CA's private key",
            Self::CaCertificate => "file of the CA's certificate",
        }
    }

    /// Whether it is open, after what was given and answered before.
    fn applies(self, draft: &Draft) -> bool {
        let patroni = &draft.patroni;
        match self {
            Self::Nodes => patroni.nodes == Nodes::default(),
            Self::Nameserver => matches!(patroni.nodes, Nodes::Named(_)),
            Self::Tls => patroni.tls.is_none(),
            Self::CaKey => matches!(patroni.tls, Some(PatroniMode::Mutual) | None),
            Self::CaCertificate => patroni.tls != Some(PatroniMode::Off),
            _ => true,
        }
    }

    /// The value that the answer is for, where it is a plain one.
    fn slot(self, draft: &mut Draft) -> Option<&mut Slot> {
        Some(match self {
            Self::Name => &mut draft.name,
            Self::Image => &mut draft.base,
            Self::Pool => &mut draft.pool,
            Self::Network => &mut draft.network,
            Self::Address => &mut draft.ip,
            Self::SshKey => &mut draft.ssh_key,
            Self::Nameserver => &mut draft.patroni.nameserver,
            Self::CaKey => &mut draft.patroni.ca_key,
            Self::CaCertificate => &mut draft.patroni.ca_certificate,
            Self::Nodes | Self::Tls => return None,
        })
    }

    /// What is offered, and what is said beside the question.
    fn offer(self, draft: &mut Draft) -> (String, String) {
        if let Some(slot) = self.slot(draft) {
            return (slot.value.clone(), slot.comment.clone());
        }
        let (offered, beside) = match self {
            Self::Tls => ("mutual", "Patroni comes with it off, on port 8008"),
            _ => ("", "addresses with commas between, or one DNS name of all"),
        };
        (offered.to_owned(), beside.to_owned())
    }

    /// Puts the answer into the draft. An empty one leaves the value to be filled in.
    fn take(self, draft: &mut Draft, answer: &str) -> Result<(), NotTaken> {
        if let Some(slot) = self.slot(draft) {
            // Then nothing was found, and that is no longer worth a word.
            if slot.value.is_empty() && !answer.is_empty() {
                slot.comment.clear();
            }
            answer.clone_into(&mut slot.value);
        }
        match self {
            Self::Image | Self::Pool | Self::Network | Self::Tls if answer.is_empty() => {}
            Self::Image => draft.base_pool.value = self.pool_of(draft, answer)?,
            Self::Pool => self.ensure_there(&draft.pools, answer)?,
            Self::Network => {
                self.ensure_there(&draft.networks, answer)?;
                draft.ip = draft.address_in(answer);
            }
            Self::Nodes => draft.patroni.nodes = Nodes::parse(answer.split(',')),
            Self::Tls => draft.patroni.tls = Some(mode(answer)?),
            _ => {}
        }
        Ok(())
    }

    /// The pool in which the image is: where nothing uses it, if there are several.
    fn pool_of(self, draft: &Draft, name: &str) -> Result<String, NotTaken> {
        let mut known = draft.images.iter().chain(&draft.volumes);
        if draft.volumes.is_empty() {
            return Ok(draft.base_pool.value.clone());
        }
        let found = known.find(|volume| volume.name == name);
        found.map(|volume| volume.pool.clone()).ok_or_else(|| {
            let images: Vec<String> = draft.images.iter().map(|at| at.name.clone()).collect();
            self.not_there(name, &images)
        })
    }

    fn ensure_there(self, known: &[String], name: &str) -> Result<(), NotTaken> {
        // What a host does not say is not held against the answer.
        if known.is_empty() || known.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(self.not_there(name, known))
    }

    fn not_there(self, name: &str, known: &[String]) -> NotTaken {
        let (one, all) = match self {
            Self::Image => ("volume", "images"),
            Self::Pool => ("pool", "pools"),
            _ => ("network", "networks"),
        };
        NotTaken {
            why: match self {
                Self::Image => format!("no active pool of this host has a volume {name}"),
                _ => format!("this host has no {one} {name}"),
            },
            help: Slot::of(all, known, None).comment,
        }
    }
}

fn mode(answer: &str) -> Result<PatroniMode, NotTaken> {
    PatroniMode::from_str(answer, true).map_err(|_| NotTaken {
        why: format!("\"{answer}\" is none of off, server and mutual"),
        help: "off: plain HTTP, as Patroni comes; server: TLS, and no client certificate is asked for; mutual: TLS with a \
               client certificate, which lbctl issues"
            .to_owned(),
    })
}

impl Draft {
    /// Asks for what is not known, and offers what is, until all is answered or nobody answers.
    /// `base`: the folder at which paths start.
    pub(super) fn ask(&mut self, out: &Output, base: PathBuf) {
        let inputs = SystemInputs { base };
        for question in ALL {
            if question.applies(self) && !self.ask_one(question, out, &inputs) {
                return;
            }
        }
    }

    /// False: nobody answers.
    fn ask_one(&mut self, question: Question, out: &Output, inputs: &SystemInputs) -> bool {
        let (mut offered, beside) = question.offer(self);
        loop {
            let Some(answer) = out.ask_for(question.text(), &offered, &beside) else {
                return false;
            };
            let mut answered = self.clone();
            let taken = question.take(&mut answered, &answer);
            match taken.and_then(|()| answered.ensure_no_worse_than(self, inputs)) {
                Ok(()) => {
                    *self = answered;
                    return true;
                }
                Err(NotTaken { why, help }) => {
                    // Enter must not give the same again: it leaves the value to be filled in.
                    if answer == offered {
                        offered.clear();
                    }
                    out.not_taken(&why, &help);
                }
            }
        }
    }

    /// What `check` would say of the answers, and did not say before the last of them.
    fn ensure_no_worse_than(&self, before: &Self, inputs: &SystemInputs) -> Result<(), NotTaken> {
        let known = before.problems(inputs);
        let is_known = |new: &Problem| {
            let is_same = |old: &Problem| old.key == new.key && old.message == new.message;
            known.iter().any(is_same)
        };
        match self.problems(inputs).into_iter().find(|new| !is_known(new)) {
            None => Ok(()),
            Some(problem) => Err(NotTaken {
                why: problem.message,
                help: problem.help,
            }),
        }
    }

    /// Without those of values that are to be filled in.
    fn problems(&self, inputs: &SystemInputs) -> Vec<Problem> {
        let text = self.to_toml();
        let now = OffsetDateTime::now_utc();
        let Err(report) = config::parse(&text, "the answers", inputs, now) else {
            return Vec::new();
        };
        let is_open = |problem: &Problem| {
            let line = problem.line.checked_sub(1);
            let line = line.and_then(|line| text.lines().nth(line));
            line.is_some_and(|line| line.contains(FILL_IN))
        };
        let problems = report.problems.into_iter();
        problems.filter(|problem| !is_open(problem)).collect()
    }
}
