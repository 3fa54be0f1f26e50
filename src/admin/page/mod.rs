//! The live page: one document with its style and script in it, that asks `/status` and nothing else.

use super::client::POLICY;
use super::routes::{Answer, text};
use crate::hex::hex;

/// What stands for the nonce in the document.
const NONCE: &str = "@nonce@";

/// The page. A browser runs and applies only what carries this answer's nonce (Content Security Policy
/// Level 3, section 2.3.1): no text that finds its way into the page becomes a script.
pub(super) fn answer() -> Answer {
    let mut nonce = [0; 16];
    if getrandom::fill(&mut nonce).is_err() {
        return text(500, "the operating system gives no random bytes");
    }
    let nonce = hex(&nonce);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let body = document().replace(NONCE, &nonce);
    Answer { status: 200, content_type: "text/html; charset=utf-8", headers: Vec::new(), body }.with(POLICY, policy)
}

fn document() -> String {
    let script = concat!(
        include_str!("model.js"),
        "\n",
        include_str!("draw.js"),
        "\n",
        include_str!("lasting.js"),
        "\n",
        include_str!("page.js")
    );
    let style = concat!(include_str!("../../palette.css"), include_str!("page.css"));
    include_str!("page.html").replace("@style@", style).replace("@script@", script)
}
