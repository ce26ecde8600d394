//! The page at `/`: a single document without external resources. It polls `/state` once a second.

/// Media type of the page.
pub(crate) const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// Content security policy of the page: inline script and styles, and requests to this server only.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                          img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// HTML document, with its styles and script inlined.
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
