//! Who asks: the token in `Authorization: Bearer …`, checked before a handler runs. A handler that takes a
//! [`Visitor`] cannot be reached by anybody else; what a visitor may see is then decided by their id.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use tidegate_protocol::fb;
use tidegate_protocol::token::{self, Claims, LOCAL_OPERATOR, LOCAL_OPERATOR_S_MAX, TokenError};

use super::HttpState;
use super::problem::Problem;
use crate::app::command::Actor;
use crate::auth;
use crate::engine::kinds::{Reason, Role};
use crate::engine::rows::AgentRow;

/// A visitor.
#[derive(Debug, Clone)]
pub struct Visitor(pub Actor);

/// An agent or a supervisor whose account still stands.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Who.
    pub actor: Actor,
    /// Their account; `None` for the local operator.
    pub row: Option<AgentRow>,
}

/// A supervisor whose account still stands.
#[derive(Debug, Clone)]
pub struct Supervisor(pub Agent);

impl FromRequestParts<Arc<HttpState>> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<HttpState>,
    ) -> Result<Self, Problem> {
        let claims = claims(&parts.headers, state)?;
        if claims.role != fb::Role::Visitor {
            return Err(Problem::new(
                Reason::Forbidden,
                "this is for visitors; the token is an agent's",
            ));
        }
        Ok(Self(actor(claims, Role::Visitor)))
    }
}

impl FromRequestParts<Arc<HttpState>> for Agent {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<HttpState>,
    ) -> Result<Self, Problem> {
        let claims = claims(&parts.headers, state)?;
        let role = match claims.role {
            fb::Role::Agent => Role::Agent,
            fb::Role::Supervisor => Role::Supervisor,
            _ => {
                return Err(Problem::new(
                    Reason::Forbidden,
                    "this is for agents; the token is a visitor's",
                ));
            }
        };
        if claims.sub == LOCAL_OPERATOR {
            if claims.exp.saturating_sub(claims.iat) > LOCAL_OPERATOR_S_MAX {
                return Err(Problem::new(
                    Reason::BadToken,
                    "a local operator's token lives for a minute",
                ));
            }
            return Ok(Self {
                actor: actor(claims, role),
                row: None,
            });
        }
        let id = claims.sub;
        let Some(row) = state.readers.ask(move |reader| reader.agent(id))?.await? else {
            return Err(Problem::new(
                Reason::BadToken,
                "this account does not exist any more",
            ));
        };
        if row.disabled || claims.iat < row.tokens_valid_from_s {
            return Err(Problem::new(
                Reason::ExpiredToken,
                "log in again: the account was disabled or its password changed",
            ));
        }
        // The account's role counts, not the one of the day of the login.
        let actor = Actor {
            role: row.role,
            name: row.name.clone(),
            ..actor(claims, role)
        };
        Ok(Self {
            actor,
            row: Some(row),
        })
    }
}

impl FromRequestParts<Arc<HttpState>> for Supervisor {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<HttpState>,
    ) -> Result<Self, Problem> {
        let agent = Agent::from_request_parts(parts, state).await?;
        if agent.actor.role != Role::Supervisor {
            return Err(Problem::new(Reason::Forbidden, "this is for supervisors"));
        }
        Ok(Self(agent))
    }
}

fn actor(claims: Claims, role: Role) -> Actor {
    Actor {
        id: claims.sub,
        role,
        name: claims.name,
        widget: claims.wid,
    }
}

fn claims(headers: &HeaderMap, state: &HttpState) -> Result<Claims, Problem> {
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let Some(token) = header.and_then(bearer) else {
        return Err(Problem::new(
            Reason::BadToken,
            "send the header `Authorization: Bearer TOKEN`",
        ));
    };
    let claims = token::verify(token, &state.key, auth::now_s()).map_err(|error| {
        let reason = match error {
            TokenError::Expired { .. } => Reason::ExpiredToken,
            _ => Reason::BadToken,
        };
        Problem::new(reason, error.to_string())
    })?;
    if claims.sid != state.config.site_id {
        return Err(Problem::with_status(
            StatusCode::UNAUTHORIZED,
            Reason::BadToken,
            "the token is another site's",
        ));
    }
    Ok(claims)
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The address that rate limits count by: the peer's, or what a trusted proxy says; of IPv6 the network (/64),
/// since one host has all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl FromRequestParts<Arc<HttpState>> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<HttpState>,
    ) -> Result<Self, Problem> {
        let peer = parts
            .extensions
            .get::<SocketAddr>()
            .map_or(IpAddr::from([0, 0, 0, 0]), SocketAddr::ip);
        Ok(Self(counted(client_address(
            peer,
            &parts.headers,
            &state.config.trusted_proxies,
        ))))
    }
}

fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

/// Walks `X-Forwarded-For` from its end, through proxies that are trusted, to the first that is not.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    if !trusted.contains(&peer) {
        return peer;
    }
    let values = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        let Ok(address) = hop.parse() else { break };
        client = address;
        if !trusted.contains(&client) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-for",
            axum::http::HeaderValue::from_static(value),
        );
        headers
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn x_forwarded_for_is_ignored_from_anybody_but_a_trusted_proxy() {
        let headers = forwarded("1.2.3.4");
        assert_eq!(
            client_address(ip("9.9.9.9"), &headers, &[ip("10.0.0.1")]),
            ip("9.9.9.9")
        );
        assert_eq!(
            client_address(ip("10.0.0.1"), &headers, &[ip("10.0.0.1")]),
            ip("1.2.3.4")
        );
    }

    #[test]
    fn a_host_with_a_network_of_its_own_counts_once() {
        assert_eq!(counted(ip("2001:db8::1")), counted(ip("2001:db8::ffff")));
        assert_ne!(counted(ip("2001:db8::1")), counted(ip("2001:db8:0:1::1")));
        assert_eq!(counted(ip("::ffff:1.2.3.4")), ip("1.2.3.4"));
    }

    #[test]
    fn what_the_client_itself_wrote_in_front_is_not_believed() {
        let headers = forwarded("6.6.6.6, 1.2.3.4, 10.0.0.2");
        let trusted = [ip("10.0.0.1"), ip("10.0.0.2")];
        assert_eq!(
            client_address(ip("10.0.0.1"), &headers, &trusted),
            ip("1.2.3.4")
        );
    }
}
