//! Another lbctl does all of its work between two changes of this one, before each of them in turn.
//! In the end it is as if one after the other had been run. On a real libvirt, and at random
//! moments, it is `tests/it/libvirt/race.rs`.

use lbctl::testing::exit::{Exit, Failure, MessageId};
use lbctl::testing::reconcile::apply::{ApplyError, apply};
use lbctl::testing::reconcile::desired::current_seed;
use lbctl::testing::reconcile::plan::{DownOptions, Plan, Step, plan_down};
use lbctl::testing::reconcile::rounds::{Again, Reconciler, Remaining, in_rounds};
use std::time::Duration;

use super::{
    Quiet, a_booting_guest_finds_a_whole_seed, certificate, config, config_with_password, down,
    observe_everything, plan, renew, up,
};
use crate::support::host::{MemoryHost, Visitor};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Up,
    /// With another password.
    Update,
    Renew,
    Down,
}

/// A command as `lbctl` carries it out.
struct Doing<'h> {
    command: Command,
    host: &'h MemoryHost,
    /// The certificate that a renewal replaces.
    before: Option<String>,
}

impl Reconciler for Doing<'_> {
    fn replan(&mut self) -> Result<Remaining, Failure> {
        let gone = || Failure::new(Exit::Failed, MessageId::SeedVanished, "it is gone", "");
        let observed = observe_everything(self.host);
        let there = observed.domain.is_some() && current_seed(&observed).is_some();
        let plan = match self.command {
            Command::Up => plan(&config(""), self.host),
            Command::Update => plan(&config_with_password("y"), self.host),
            Command::Renew if !there => return Err(gone()),
            Command::Renew => renew(&config(""), self.host, true).unwrap(),
            Command::Down => {
                let options = DownOptions {
                    stop_deadline: Duration::ZERO,
                    delete_volume: true,
                    alone: false,
                };
                plan_down(&config(""), &observe_everything(self.host), options).unwrap()
            }
        };
        let renewed = || {
            let in_drive = self.host.seed_of_next_boot("lb-1");
            in_drive.is_some() && Some(certificate(self.host)) != self.before
        };
        let done = plan.is_empty() || self.command == Command::Renew && renewed();
        Ok(Remaining { plan, done })
    }

    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
        apply(steps, self.host, &mut Quiet)
    }

    fn back_off(&mut self, _: usize, _: Again<'_>) {}

    fn unfinished(&self, left: &Plan) -> Failure {
        let text = format!("left: {:?}", left.changes);
        Failure::new(Exit::Failed, MessageId::StateDiffers, text, "")
    }
}

fn run(command: Command, host: &MemoryHost) -> Result<(), Failure> {
    let before =
        (command == Command::Renew && host.guest("lb-1").is_some()).then(|| certificate(host));
    let mut doing = Doing {
        command,
        host,
        before,
    };
    let first = doing.replan()?;
    if first.plan.is_empty() {
        return Ok(());
    }
    in_rounds(first.plan, &mut doing)
}

/// The one race that remains: a renewal has checked that no other run is changing the guest, and
/// before the next call, in which it notes what the guest has, another lbctl does all of an update
/// to another configuration. libvirt has no call that does both.
const BETWEEN_LOOK_AND_NOTE: (Command, Command, usize) = (Command::Renew, Command::Update, 5);

/// Runs `one` with `other` at each place between, both from what `prepare` makes.
fn at_each_place(prepare: Visitor, one: Command, other: (Command, Visitor)) {
    let prepared = MemoryHost::new();
    prepare(&prepared);
    let whole = prepared.clone_state();
    let before = whole.changes();
    run(one, &whole).unwrap();
    let places = whole.changes() - before;
    assert!(places > 0);
    let places = (0..places).filter(|place| (one, other.0, *place) != BETWEEN_LOOK_AND_NOTE);
    for place in places {
        let host = prepared.clone_state();
        host.visit_after(place, other.1);
        let ended = run(one, &host);
        let what = format!("{:?} at place {place} of {one:?}", other.0);
        eprintln!("{what}: {:?}", ended.as_ref().map_err(ToString::to_string));
        if let Err(failure) = ended {
            // A way up and a way down may not both have their end.
            let opposed = one == Command::Down || other.0 == Command::Down;
            assert!(opposed, "{what}: {failure}");
        }
        a_booting_guest_finds_a_whole_seed(&config(""), &host);
        up(&config(""), &host);
        a_booting_guest_finds_a_whole_seed(&config(""), &host);
        assert_eq!(host.volumes(), 3, "base, disk and one seed, {what}");
        down(&config(""), &host);
        assert_eq!(host, MemoryHost::new(), "{what}");
    }
}

const OTHERS: [(Command, Visitor); 4] = [
    (Command::Up, |host| drop(run(Command::Up, host))),
    (Command::Update, |host| drop(run(Command::Update, host))),
    (Command::Renew, |host| {
        if host.guest("lb-1").is_some() {
            drop(run(Command::Renew, host));
        }
    }),
    (Command::Down, |host| drop(run(Command::Down, host))),
];

#[test]
fn another_at_each_place_of_a_first_up() {
    for other in OTHERS {
        at_each_place(|_| {}, Command::Up, other);
    }
}

#[test]
fn another_at_each_place_of_an_update_a_renewal_and_a_way_down() {
    for one in [Command::Update, Command::Renew, Command::Down] {
        for other in OTHERS {
            at_each_place(|host| up(&config(""), host), one, other);
        }
    }
}
