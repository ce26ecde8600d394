//! The page at `/`: one document without anything from elsewhere. It asks `/state` once a second.

/// Its media type.
pub(crate) const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// What it may do: run what it has in itself and ask this server.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                          img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The document.
pub(crate) const HTML: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    "<meta name=\"color-scheme\" content=\"light dark\">\n<title>kafka-consumer</title>\n",
    "<link rel=\"icon\" href=\"data:,\">\n<style>\n",
    include_str!("page/page.css"),
    "</style>\n",
    include_str!("page/page.html"),
    "<script>\n",
    include_str!("page/page.js"),
    "</script>\n</html>\n"
);
