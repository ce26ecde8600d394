//! Listen address of the HTTP server, and HTTP errors.

use std::fmt;
use std::io;
use std::str::FromStr;

use thiserror::Error;

/// Listen address as HOST:PORT, or off. Port 0 selects a free port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAddr {
    /// No server.
    Off,
    /// Address of valid form.
    At(String),
}

/// Error of the HTTP server or client.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Another process listens at the address.
    #[error(
        "cannot listen on {address}: another process uses the port; choose another address, such as \
         --http-addr 127.0.0.1:0 for any free port, or --http-addr off"
    )]
    Taken {
        /// Listen address.
        address: String,
    },
    /// The server cannot listen at the address.
    #[error("cannot listen on {address}: {error}; choose another address with --http-addr, or --http-addr off")]
    Listen {
        /// Listen address.
        address: String,
        /// Error of the operating system.
        error: io::Error,
    },
    /// No valid response.
    #[error("no response from {address}: {error}; give the --http-addr of the running program")]
    NoAnswer {
        /// Address of the server.
        address: String,
        /// Cause.
        error: String,
    },
}

impl FromStr for HttpAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self::At(text.to_owned())),
            _ => Err("not an address; write HOST:PORT, such as 127.0.0.1:9464, or off".to_owned()),
        }
    }
}

impl fmt::Display for HttpAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::At(address) => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_an_address() {
        assert_eq!("off".parse(), Ok(HttpAddr::Off));
        for good in ["127.0.0.1:9464", "localhost:0", "[::1]:80", "0.0.0.0:65535"] {
            assert_eq!(good.parse(), Ok(HttpAddr::At(good.to_owned())));
        }
        for bad in ["", "9464", ":9464", "localhost", "localhost:65536", "localhost:http"] {
            assert!(bad.parse::<HttpAddr>().is_err(), "{bad}");
        }
    }
}
