//! What the tests in `tests/it` and the fuzzers in `fuzz/` use of lbctl. Nothing else is public, so
//! that the compiler sees what nobody calls. Not an interface for others.

pub mod cert {
    pub use crate::cert::{
        Ca, CaCertificates, CaError, CaSource, ClientPair, Facts, GivenError, IssueReason,
        KeyAlgorithm, KeyError, Part, PathVerdict, Policy, Purpose, Resolution, due, due_given,
        new_key, resolve, resolve_given, verify,
    };
}
pub mod checklist {
    pub use crate::checklist::Outcome;
    pub use crate::checklist::outside::judge as judge_node;
    pub mod dns {
        pub use crate::checklist::dns::{DnsAnswer, MOST, read};
    }
    pub mod nodes {
        pub use crate::checklist::nodes::{CertVerdict, NodeAnswer, Question, Reply};
    }
}
pub mod cli {
    pub use crate::cli::Cli;
}
pub mod commands {
    pub use crate::commands::plan_text;
}
pub mod config {
    pub use crate::config::{
        Addressing, Balance, CertificateSource, ClientService, CloneVolume, Config, Disk,
        DiskFormat, DomainName, Effect, FirstBoot, HaproxyTime, HaproxyVersion, Hop, Inputs,
        Interface, InterfaceAddress, IpNetwork, KEYS, Key, Loaded, MAX_INPUT, MacAddr, MainRole,
        MemoryInputs, Metrics, Name, Need, NetworkRef, Node, NodeAddress, Nodes, PatroniTls, Peer,
        Port, Replicas, Report, Role, Route, Runtime, Sha256, StaticAddressing, Switch,
        SystemInputs, TimeSource, VirtualIp, VolumeRef, load, parse, render_warnings,
    };
    pub mod keys {
        pub use crate::config::keys::{Bounds, KEYS, Key, Kind, Literal};
    }
}
pub mod exit {
    pub use crate::exit::{Exit, Failure, MessageId};
}
pub mod guest {
    pub use crate::guest::{
        AgentAvailability, BootProgress, CertificateFacts, Certificates, CloudInit, ConvergeError,
        Extent, Guest, GuestStatus, HaproxyStatus, PeerStatus, Server, VirtualIpStatus,
    };
    pub mod ready {
        pub use crate::guest::ready::{News, Outcome, Patience, wait};
    }
}
pub mod host {
    pub use crate::host::{
        AgentChannel, BridgeFacts, Claims, CloneSpec, Definition, DeviceState, DomainFacts,
        DomainState, HostEntry, HostError, HostErrorKind, HostReader, HostResult, HostWriter,
        Lease, Listed, NetworkFacts, NetworkId, Node, Reconnect, RunState, SavedState, Scope,
        Snapshot, Source, StateReason, StopBy, Subnet, VolumeFacts, VolumeState, xml,
    };
    pub mod libvirt {
        pub use crate::host::libvirt::LibvirtHost;
    }
    pub mod ownership {
        pub use crate::host::ownership::Ownership;
    }
}
pub mod image {
    pub use crate::image::{Image, ImageFacts};
}
pub mod import {
    pub use crate::import::{
        ChoiceError, Chosen, Content, Imported, Leaving, MAX_STATE, Missing, State, StateError,
        UserData, Wanted, choose, ethernets, from_host, import,
    };
}
pub mod output {
    pub use crate::output::report::TextPart;
    pub mod json {
        pub use crate::output::json::json_schema;
    }
}
pub mod reconcile {
    pub mod apply {
        pub use crate::reconcile::apply::{ApplyError, Progress, apply};
    }
    pub mod rounds {
        pub use crate::reconcile::rounds::{Again, Reconciler, Remaining, in_rounds};
    }
    pub mod turns {
        pub use crate::reconcile::turns::{
            AnotherReady, Ended, Gate, Member, Shares, Work, in_turns,
        };
    }
    pub mod desired {
        pub use crate::reconcile::desired::{Adoption, Desired, Intent, Renewal, current_seed};
    }
    pub mod observe {
        pub use crate::reconcile::observe::{Ask, Observed, observe};
    }
    pub mod plan {
        pub use crate::reconcile::plan::{
            Class, DownOptions, Plan, Refusal, RefusalKind, Restart, Step, guest_differs,
            plan_down, plan_renew, plan_up,
        };
    }
}
pub mod render {
    pub use crate::render::{
        CheckTls, GuestFile, GuestSpec, Owner, SeedFiles, haproxy_cfg, image_reference,
        network_config, programs, seed_files,
    };
}
pub mod secret {
    pub use crate::secret::{MASK, Secret};
}
pub mod seed {
    pub use crate::seed::{FoundSeed, Seed, SeedContent, places, recognise};
    pub mod iso {
        pub use crate::seed::iso::{
            FILES_MAX, File, IMAGE_MAX, Image, IsoError, ensure_writable, read, read_tag, write,
        };
    }
}
pub mod status {
    pub use crate::status::{
        Address, Certificate, GuestAnswer, Look, SIGNS, Sign, Status, TWO, exposition, role_word,
    };
}
pub mod text {
    pub mod sanitize {
        pub use crate::text::sanitize::drives_terminal;
    }
}
