//! One question to a DNS server: which IPv4 addresses a name has. As HAProxy's resolver asks, by
//! UDP. The packets are `simple-dns`'s.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};

/// For one answer; there are two attempts.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most that an answer by UDP holds.
const LARGEST: usize = 65_535;

/// More nodes than any cluster has.
pub const MOST: usize = 64;

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsAnswer {
    /// Sorted; maybe none.
    Addresses(Vec<Ipv4Addr>),
    /// What the server's code means, with its name.
    Refused(String),
    /// Nobody answered, or not a DNS server.
    Silent(String),
}

/// Asks the server for the name's addresses.
#[must_use]
pub fn ask(server: SocketAddr, name: &str) -> DnsAnswer {
    let silent = |e: &io::Error| DnsAnswer::Silent(e.to_string());
    let mut last = DnsAnswer::Silent("no answer".into());
    for id in [0x6c62u16, 0x6c63] {
        match exchange(server, name, id) {
            Ok(answer) => return answer,
            Err(e) => last = silent(&e),
        }
    }
    last
}

fn exchange(server: SocketAddr, name: &str, id: u16) -> io::Result<DnsAnswer> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Only this server's answers come through, and that its port is closed is reported.
    socket.connect(server)?;
    socket.send(&question(name, id)?)?;
    let until = Instant::now() + PATIENCE;
    let mut buffer = vec![0; LARGEST];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let said = format!("no answer within {} s", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, said));
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(count) => {
                if let Some(answer) = read(&buffer[..count], id) {
                    return Ok(answer);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

fn question(name: &str, id: u16) -> io::Result<Vec<u8>> {
    let invalid =
        |e: simple_dns::SimpleDnsError| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name.trim_end_matches('.')).map_err(invalid)?;
    let kind = QTYPE::TYPE(TYPE::A);
    packet
        .questions
        .push(Question::new(name, kind, CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(invalid)
}

/// `None`: it is not an answer to that question. What a server says is not to be trusted: of
/// addresses it takes [`MOST`].
#[must_use]
pub fn read(bytes: &[u8], id: u16) -> Option<DnsAnswer> {
    let packet = Packet::parse(bytes).ok()?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    if packet.rcode() != RCODE::NoError {
        return Some(DnsAnswer::Refused(words(packet.rcode())));
    }
    let mut addresses: Vec<Ipv4Addr> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(a) => Some(Ipv4Addr::from(a.address)),
            _ => None,
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST);
    Some(DnsAnswer::Addresses(addresses))
}

/// What a server's code says (RFC 1035, 4.1.1), with the code's own name.
fn words(code: RCODE) -> String {
    let words = match code {
        RCODE::NameError => "no such name (NXDOMAIN)",
        RCODE::ServerFailure => "the server failed (SERVFAIL)",
        RCODE::Refused => "the server refuses to answer (REFUSED)",
        RCODE::FormatError => "the server does not understand the question (FORMERR)",
        RCODE::NotImplemented => "the server cannot do that (NOTIMP)",
        other => return format!("the server answers with code {}", other as u8),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::thread;

    use simple_dns::ResourceRecord;
    use simple_dns::rdata::A;

    use super::*;

    /// A server on loopback that answers one question with what `reply` makes of it.
    fn server(reply: impl Fn(Packet<'_>) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            let (count, from) = socket.recv_from(&mut buffer).unwrap();
            for answer in reply(Packet::parse(&buffer[..count]).unwrap()) {
                socket.send_to(&answer, from).unwrap();
            }
        });
        address
    }

    fn reply(question: &Packet<'_>, addresses: &[Ipv4Addr]) -> Vec<u8> {
        let mut packet = Packet::new_reply(question.id());
        let name = Name::new("pg.example.org").unwrap();
        for ip in addresses {
            let data = RData::A(A {
                address: (*ip).into(),
            });
            let record = ResourceRecord::new(name.clone(), CLASS::IN, 5, data);
            packet.answers.push(record);
        }
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn the_addresses_of_an_answer_come_once_each_and_sorted() {
        let [one, two] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let at = server(move |question| {
            assert_eq!(question.questions[0].qname.to_string(), "pg.example.org");
            vec![reply(&question, &[two, one, two])]
        });
        assert_eq!(
            ask(at, "pg.example.org"),
            DnsAnswer::Addresses(vec![one, two])
        );
    }

    #[test]
    fn what_is_not_an_answer_to_the_question_is_ignored() {
        let ip = Ipv4Addr::new(10, 0, 0, 9);
        let at = server(move |question| {
            let another = Packet::new_query(question.id() + 1);
            let mut echo = Packet::new_query(question.id());
            echo.questions.clone_from(&question.questions);
            vec![
                b"\xff\x00 hello".to_vec(),
                reply(&another, &[Ipv4Addr::LOCALHOST]),
                echo.build_bytes_vec().unwrap(),
                reply(&question, &[ip]),
            ]
        });
        assert_eq!(ask(at, "pg.example.org"), DnsAnswer::Addresses(vec![ip]));
    }

    #[test]
    fn a_refusal_is_reported_in_the_words_of_dns() {
        let at = server(|question| {
            let mut packet = Packet::new_reply(question.id());
            *packet.rcode_mut() = RCODE::NameError;
            vec![packet.build_bytes_vec().unwrap()]
        });
        assert_eq!(
            ask(at, "pg.example.org"),
            DnsAnswer::Refused("no such name (NXDOMAIN)".into())
        );
    }

    #[test]
    fn no_server_is_silence() {
        let closed = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(matches!(
            ask(closed, "pg.example.org"),
            DnsAnswer::Silent(_)
        ));
    }
}
