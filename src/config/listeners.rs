//! Further ports for clients: `[[haproxy.services]]`, and `replicas_port`, its short form.

use super::checks;
use super::diagnostics::{Read, Spanned, all};
use super::model::{Balance, ClientService, Replicas, Role};
use super::reader::Section;

/// Of a tag's name and value, as it stands in a line of haproxy.cfg.
const LONGEST_TAG: usize = 128;

pub(super) fn replicas(section: &Section<'_>) -> Read<Option<Replicas>> {
    let lag = section.optional("replicas_max_lag", |s, k| s.parsed(k, checks::lag));
    let Some(port) = section.optional("replicas_port", Section::port)? else {
        return match section.given("replicas_max_lag") {
            None => Ok(None),
            Some(given) => {
                let what = "is given, but no port for the replicas is";
                let help = "add replicas_port = 5433, or remove it";
                Err(section.diagnostics().refuse(&given, what, help))
            }
        };
    };
    Ok(Some(Replicas {
        port: port.value,
        max_lag: lag?.map(Spanned::into_value),
    }))
}

/// `section` is `[haproxy]`.
pub(super) fn services(section: &Section<'_>) -> Read<Vec<ClientService>> {
    let diagnostics = section.diagnostics();
    let sections = section.sections("services");
    let most = section.most("services");
    if let (Some(first), true) = (sections.first(), sections.len() > most) {
        let what = format!("is the first of {} services", sections.len());
        let help = format!("give at most {most}: each asks every node twice a second");
        return Err(diagnostics.refuse(&first.here(), &what, help));
    }
    let read = all(sections.iter().map(service))?;
    let mut apart = Ok(());
    for (place, (name, service)) in read.iter().enumerate() {
        let before = &read[..place];
        let taken = before
            .iter()
            .find(|(_, other)| shares_a_name(service, other));
        if let Some((other_name, _)) = taken {
            let what = format!("is \"{}\", a name that another service has", service.name);
            let help = "give each service a name of its own, also beside NAME-ROLE, as HAProxy's backends are called";
            let label = "has the same";
            apart = Err(diagnostics.conflict(name, other_name, &what, label, help));
        }
    }
    apart?;
    Ok(read.into_iter().map(|(_, service)| service).collect())
}

/// HAProxy's names of it: frontend and backends.
fn names(service: &ClientService) -> Vec<String> {
    let backend = |role: Role| service.backend(role);
    let mut names = vec![service.name.clone(), backend(service.role)];
    names.extend(service.fallback.map(backend));
    names
}

fn shares_a_name(one: &ClientService, other: &ClientService) -> bool {
    let others = names(other);
    names(one).iter().any(|name| others.contains(name))
}

fn service(section: &Section<'_>) -> Read<(Spanned<String>, ClientService)> {
    let name = section.parsed("name", checks::service_name);
    let port = section.port("port");
    let role = section.word::<Role>("role");
    let fallback = section.optional("fallback", Section::word::<Role>);
    let max_lag = section.optional("max_lag", |s, k| s.parsed(k, checks::lag));
    let tags = tags(section);
    let balance = section.word::<Balance>("balance");
    let proxy_protocol = section.optional("proxy_protocol", |s, k| s.parsed(k, checks::proxy_v2));
    let postgres_port = section.optional("postgres_port", Section::port);
    let (role, fallback) = (role?, fallback?);
    fits(section, &role, fallback.as_ref())?;
    let name = name?;
    let service = ClientService {
        name: name.value.clone(),
        port: port?.value,
        role: role.value,
        fallback: fallback.map(Spanned::into_value),
        max_lag: max_lag?.map(Spanned::into_value),
        tags: tags?,
        balance: balance?.value,
        proxy_protocol: proxy_protocol?.is_some(),
        postgres_port: postgres_port?.map(Spanned::into_value),
    };
    Ok((name, service))
}

/// Whether the roles go together, and with what is given beside them.
fn fits(section: &Section<'_>, role: &Spanned<Role>, fallback: Option<&Spanned<Role>>) -> Read<()> {
    let diagnostics = section.diagnostics();
    if let Some(fallback) = fallback.filter(|fallback| role.value.covers(fallback.value)) {
        let (own, other) = (role.value.as_str(), fallback.value.as_str());
        let what =
            format!("is \"{other}\", of which no node is left where none is left for \"{own}\"");
        let help = "give another role, such as \"primary\" for a service of replicas, or remove it";
        return Err(diagnostics.conflict(fallback, role, &what, "the first choice", help));
    }
    let mut roles = std::iter::once(role.value).chain(fallback.map(|f| f.value));
    if !roles.all(Role::is_single) {
        return Ok(());
    }
    let unused = [
        ("max_lag", "a leader does not lag"),
        ("tags", "Patroni does not look at the tags of a leader"),
        ("balance", "a cluster has one such node"),
    ];
    let mut fits = Ok(());
    for (name, why) in unused {
        if let Some(given) = section.given(name) {
            let what = format!("is given, but {why}");
            let help = "remove it, or give a role of replicas";
            fits = Err(diagnostics.conflict(&given, role, &what, "the role", help));
        }
    }
    fits
}

fn tags(section: &Section<'_>) -> Read<Vec<(String, String)>> {
    let diagnostics = section.diagnostics();
    let given = section.pairs("tags");
    let most = section.most("tags");
    if let (Some((first, _)), true) = (given.first(), given.len() > most) {
        let what = format!("is the first of {} tags", given.len());
        return Err(diagnostics.refuse(first, &what, format!("give at most {most}")));
    }
    let help = "write it as Patroni's configuration has it under tags";
    all(given.into_iter().map(|(name, value)| {
        let text = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        if text(&name.value) && text(&value) && name.value.len() + value.len() <= LONGEST_TAG {
            return Ok((name.value, value));
        }
        let what = format!(
            "is not a tag: name and value have 1 to {LONGEST_TAG} characters in all, and no control characters"
        );
        Err(diagnostics.refuse(&name, &what, help))
    }))
}
