//! libpq's `target_session_attrs`: requirements on the server of a session.

use crate::error::ConninfoError;
use crate::settings::Settings;

/// Requirement on the server of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionAttributes {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// State of a server, as a session reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerState {
    /// True if the server is a standby.
    pub(crate) in_hot_standby: bool,
    /// True if transactions are read-only by default.
    pub(crate) read_only: bool,
}

impl SessionAttributes {
    /// Parses the requirement. With several hosts the default is a server that accepts writes.
    pub(crate) fn of(settings: &Settings, several: bool) -> Result<Self, ConninfoError> {
        let choices = [
            ("any", Self::Any),
            ("read-write", Self::ReadWrite),
            ("read-only", Self::ReadOnly),
            ("primary", Self::Primary),
            ("standby", Self::Standby),
            ("prefer-standby", Self::PreferStandby),
        ];
        let default = if several { Self::ReadWrite } else { Self::Any };
        Ok(settings.choice("target_session_attrs", &choices)?.unwrap_or(default))
    }

    /// Returns the requirements to try in turn, each with all hosts.
    pub(crate) fn passes(self) -> &'static [Self] {
        match self {
            Self::Any => &[Self::Any],
            Self::ReadWrite => &[Self::ReadWrite],
            Self::ReadOnly => &[Self::ReadOnly],
            Self::Primary => &[Self::Primary],
            Self::Standby => &[Self::Standby],
            Self::PreferStandby => &[Self::Standby, Self::Any],
        }
    }

    /// Returns the reason if a server does not meet the requirement, or `None` if it does.
    pub(crate) fn objection(self, server: ServerState) -> Option<&'static str> {
        let read_only = server.read_only || server.in_hot_standby;
        let (met, objection) = match self {
            Self::Any | Self::PreferStandby => (true, ""),
            Self::ReadWrite => (!read_only, "database does not allow writes"),
            Self::ReadOnly => (read_only, "database is not read only"),
            Self::Primary => (!server.in_hot_standby, "server is in hot standby mode"),
            Self::Standby => (server.in_hot_standby, "server is not in hot standby mode"),
        };
        (!met).then_some(objection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_demand_admits_its_servers() {
        use SessionAttributes::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
        let server = |in_hot_standby, read_only| ServerState { in_hot_standby, read_only };
        let servers = [server(false, false), server(false, true), server(true, false), server(true, true)];
        for (demand, admitted) in [
            (Any, [true, true, true, true]),
            (ReadWrite, [true, false, false, false]),
            (ReadOnly, [false, true, true, true]),
            (Primary, [true, true, false, false]),
            (Standby, [false, false, true, true]),
        ] {
            assert_eq!(servers.map(|server| demand.objection(server).is_none()), admitted, "{demand:?}");
        }
        assert_eq!(PreferStandby.passes(), [Standby, Any]);
    }
}
