//! Why no connection over ssh came about, from the words of ssh and of the remote side: libvirt
//! gives one code for all of it. The words choose hints and decide nothing.

/// A URI as far as ssh is concerned.
struct Ssh<'a> {
    user: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    keyfile: Option<&'a str>,
}

impl<'a> Ssh<'a> {
    /// `None`: its transport is not the ssh program.
    fn of(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        if !scheme.ends_with("+ssh") {
            return None;
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.split('/').next()?;
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        // An IPv6 address stands in brackets.
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (place, None),
        };
        let mut parameters = query.split('&').filter_map(|part| part.split_once('='));
        Some(Self {
            user,
            host: host.trim_start_matches('[').trim_end_matches(']'),
            port,
            keyfile: parameters.find_map(|(name, value)| (name == "keyfile").then_some(value)),
        })
    }

    /// The command that does what libvirt does to get there.
    fn command(&self, more: &str) -> String {
        let option = |flag: &str, value: Option<&str>| {
            value.map_or_else(String::new, |value| format!(" {flag} {value}"))
        };
        format!(
            "ssh{}{}{} {} {more}",
            option("-i", self.keyfile),
            option("-p", self.port),
            option("-l", self.user),
            self.host
        )
    }

    /// As `known_hosts` names it.
    fn known_as(&self) -> String {
        match self.port {
            Some(port) if port != "22" => format!("[{}]:{port}", self.host),
            _ => self.host.to_owned(),
        }
    }
}

/// What to do; `None`: nothing is known of it, or the URI does not go by ssh. `said`: libvirt's
/// words, in lower case.
pub(super) fn hint(uri: &str, said: &str) -> Option<String> {
    let ssh = Ssh::of(uri)?;
    let says = |words: &[&str]| words.iter().any(|w| said.contains(w));
    let host = ssh.host;
    let by_hand = ssh.command("true");
    Some(if says(&["identification has changed"]) {
        format!(
            "the host's key is another one than known_hosts has. Where that is expected (a machine that was set up anew), \
             `ssh-keygen -R '{}'` forgets the old one, and `{by_hand}` shows the new one; where it is not, somebody may be \
             in between",
            ssh.known_as()
        )
    } else if says(&["host key verification failed"]) {
        format!(
            "ssh does not know this host yet: run `{by_hand}` on a terminal once, and compare the key that it shows with \
             that of the host (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there)"
        )
    } else if says(&["permission denied ("]) {
        let not_read = if says(&["identity file"]) {
            "the key file of the URI (`keyfile`) cannot be read; "
        } else {
            ""
        };
        format!(
            "{not_read}the host lets nobody in with the keys that ssh has to offer: `{by_hand}` must work without a \
             password. A key can be given in the URI (`?keyfile=…`), in `~/.ssh/config`, or by an agent"
        )
    } else if says(&["could not resolve hostname"]) {
        format!(
            "this machine cannot resolve the name {host}: correct it in the URI, or give it an address (DNS, /etc/hosts, \
             `HostName` in ~/.ssh/config); `getent hosts {host}` shows what is known"
        )
    } else if says(&[
        "connection refused",
        "no route to host",
        "network is unreachable",
        "connection timed out",
        "no answer within",
    ]) {
        format!("ssh does not reach {host}: is it up, and is its sshd? `{by_hand}` must work")
    } else if says(&["virt-ssh-helper", "failed to connect socket"]) && says(&["permission denied"])
    {
        format!(
            "ssh works, but its user may not use libvirt there: as root on {host}, `usermod -aG libvirt {}`, or log in as root",
            ssh.user.unwrap_or("USER")
        )
    } else if says(&[
        "virt-ssh-helper",
        "failed to connect socket",
        "connect to socket",
    ]) {
        format!(
            "ssh works, but no libvirt answers there: `{}` (or virtqemud) shows whether it runs",
            ssh.command("systemctl status libvirtd")
        )
    } else if says(&["not found"]) {
        format!(
            "ssh works, but {host} has no program that leads to libvirt's socket: `virt-ssh-helper`, which comes with \
             libvirt's daemon, or `nc` with -U where the URI names a socket"
        )
    } else if says(&["too large, want"]) {
        format!(
            "something on {host} writes text before libvirt does: `{by_hand}` must print nothing. Look at the login shell \
             of the user (nologin?) and at its `~/.bashrc`"
        )
    } else {
        format!(
            "`virsh -c '{uri}' uri` must work: lbctl connects as it does, by the program ssh, with your own ssh settings"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OpenSSH 9.2 and libvirt 9.0 said.
    #[test]
    fn each_failure_of_ssh_has_a_hint_with_the_values_of_the_uri() {
        let uri = "qemu+ssh://ann@kvm1:2222/system?keyfile=/home/ann/key&no_tty=1";
        for (said, wanted) in [
            (
                "cannot recv data: host key verification failed.: connection reset by peer",
                "run `ssh -i /home/ann/key -p 2222 -l ann kvm1 true` on a terminal once",
            ),
            (
                "@ warning: remote host identification has changed! @ host key verification failed.",
                "`ssh-keygen -R '[kvm1]:2222'` forgets",
            ),
            (
                "ann@kvm1: permission denied (publickey).: connection reset by peer",
                "must work without a password",
            ),
            (
                "warning: identity file /home/ann/key not accessible: no such file or directory. ann@kvm1: permission \
                 denied (publickey).",
                "(`keyfile`) cannot be read",
            ),
            (
                "ssh: connect to host kvm1 port 2222: connection refused: connection reset by peer",
                "ssh does not reach kvm1",
            ),
            (
                "ssh: could not resolve hostname kvm1: name or service not known: connection reset by peer",
                "this machine cannot resolve the name kvm1",
            ),
            (
                "virt-ssh-helper: cannot connect to '/run/libvirt/libvirt-sock': failed to connect socket to \
                 '/run/libvirt/libvirt-sock': permission denied",
                "usermod -aG libvirt ann",
            ),
            (
                "virt-ssh-helper: cannot connect to '/run/libvirt/libvirt-sock': failed to connect socket to \
                 '/run/libvirt/libvirt-sock': no such file or directory",
                "no libvirt answers there",
            ),
            (
                "end of file while reading data: sh: 1: nc: not found: input/output error",
                "has no program that leads",
            ),
            (
                "packet 1416128879 bytes received from server too large, want 33554432",
                "must print nothing",
            ),
            ("something else", "as it does, by the program ssh"),
        ] {
            let told = hint(uri, said).unwrap_or_default();
            assert!(told.contains(wanted), "{said}\n{told}");
        }
    }

    #[test]
    fn a_uri_is_taken_apart_as_ssh_needs_it() {
        for (uri, command) in [
            ("qemu+ssh://kvm1/system", "ssh kvm1 true"),
            ("qemu+ssh://root@kvm1/system", "ssh -l root kvm1 true"),
            (
                "qemu+ssh://[2001:db8::1]:22/system",
                "ssh -p 22 2001:db8::1 true",
            ),
            ("qemu+ssh://[2001:db8::1]/system", "ssh 2001:db8::1 true"),
        ] {
            assert_eq!(
                Ssh::of(uri).map(|ssh| ssh.command("true")).as_deref(),
                Some(command)
            );
        }
        for uri in [
            "qemu:///system",
            "qemu+tls://kvm1/system",
            "qemu+libssh2://kvm1/system",
        ] {
            assert!(Ssh::of(uri).is_none(), "{uri}");
        }
        let known = |uri| Ssh::of(uri).map(|ssh| ssh.known_as());
        assert_eq!(known("qemu+ssh://kvm1:22/system").as_deref(), Some("kvm1"));
    }
}
