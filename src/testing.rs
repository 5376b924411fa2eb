//! What the tests in `tests/it` and the fuzzers in `fuzz/` use of lbctl. Nothing else is public, so
//! that the compiler sees what nobody calls. Not an interface for others.

pub mod cert {
    pub use crate::cert::{
        Ca, CaError, ClientPair, Facts, IssueReason, KeyAlgorithm, Part, Policy, Resolution, due,
        resolve,
    };
}
pub mod checklist {
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
pub mod config {
    pub use crate::config::{
        Addressing, Config, Disk, Effect, HaproxyTime, HaproxyVersion, Inputs, IpNetwork, KEYS,
        Key, Loaded, MAX_INPUT, MacAddr, MemoryInputs, Metrics, Name, Need, NetworkRef, Port,
        Replicas, Report, Runtime, SystemInputs, TimeSource, VolumeRef, load, parse,
        render_warnings,
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
        Extent, Guest, GuestStatus, HaproxyStatus, Server,
    };
    pub mod ready {
        pub use crate::guest::ready::{News, Outcome, Patience, wait};
    }
}
pub mod host {
    pub use crate::host::{
        AgentChannel, Claims, CloneSpec, Definition, DomainFacts, DomainState, HostEntry,
        HostError, HostErrorKind, HostReader, HostResult, HostWriter, Lease, NetworkFacts,
        NetworkId, Reconnect, Scope, Source, StopBy, Subnet, VolumeFacts, VolumeState, xml,
    };
    pub mod libvirt {
        pub use crate::host::libvirt::LibvirtHost;
    }
    pub mod ownership {
        pub use crate::host::ownership::Ownership;
    }
}
pub mod output {
    pub mod json {
        pub use crate::output::json::json_schema;
    }
}
pub mod reconcile {
    pub mod apply {
        pub use crate::reconcile::apply::{ApplyError, Progress, apply};
    }
    pub mod rounds {
        pub use crate::reconcile::rounds::{Reconciler, Remaining, in_rounds};
    }
    pub mod desired {
        pub use crate::reconcile::desired::{Desired, Renewal, current_seed, policy};
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
            FILES_MAX, File, IMAGE_MAX, Image, IsoError, read, read_tag, write,
        };
    }
}
pub mod status {
    pub use crate::status::{Address, Certificate, GuestAnswer, Status};
}
pub mod text {
    pub mod sanitize {
        pub use crate::text::sanitize::drives_terminal;
    }
}
