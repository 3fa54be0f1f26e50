//! Command numbers and their names.

use std::fmt;

/// The byte that routes a frame.
///
/// 0x00–0x0F control, 0x10–0x1F built-in services, 0x20–0xFF the application's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command(pub u8);

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Command {
            $($(#[$doc])* pub const $name: Command = Command($value);)*

            /// The name the protocol gives this command, if it gives it one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// Every command with a name, in order.
            pub const NAMED: &'static [Command] = &[$(Command($value)),*];
        }
    };
}

commands! {
    /// Client: who I am; the payload is a token.
    AUTH = 0x01;
    /// Server: the reply to AUTH.
    READY = 0x02;
    /// Both: are you there?
    PING = 0x03;
    /// Both: the reply to PING.
    PONG = 0x04;
    /// Both: this connection will end; see [`super::GoAway`].
    GOAWAY = 0x05;
    /// Client: end the session and forget its state.
    BYE = 0x06;
    /// Server: an error; see [`super::ErrorReply`].
    ERROR = 0x0F;
    /// Client: give me my payload back.
    ECHO = 0x10;
    /// Client: read a key of my session.
    SESSION_GET = 0x11;
    /// Client: set a key of my session.
    SESSION_PUT = 0x12;
    /// Client: remove a key of my session.
    SESSION_DELETE = 0x13;
    /// Client: store a message durably.
    SUBMIT = 0x14;
    /// Client: send me a topic's messages.
    SUBSCRIBE = 0x18;
    /// Client: no longer.
    UNSUBSCRIBE = 0x19;
    /// Client: send a message to a topic's subscribers.
    PUBLISH = 0x1A;
    /// Server: a message of a subscribed topic.
    MESSAGE = 0x1B;
}

impl Command {
    /// The first command that is the application's own.
    pub const FIRST_APPLICATION: Command = Command(0x20);

    /// 0x00–0x0F.
    pub const fn is_control(self) -> bool {
        self.0 < 0x10
    }

    /// 0x20–0xFF.
    pub const fn is_application(self) -> bool {
        self.0 >= Command::FIRST_APPLICATION.0
    }

    /// Whether a client's frame with this command is a request: it gets one reply or one ERROR,
    /// and its `seq` must increase.
    pub const fn is_request(self) -> bool {
        matches!(self, Command::AUTH | Command::PING | Command::BYE) || !self.is_control()
    }

    /// Reads a name (`ECHO`, in any case) or a number (`0x20`, `32`).
    pub fn parse(text: &str) -> Option<Command> {
        if let Some(named) = Command::NAMED.iter().find(|c| c.name().is_some_and(|n| n.eq_ignore_ascii_case(text))) {
            return Some(*named);
        }
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => u8::from_str_radix(hex, 16).ok().map(Command),
            None => text.parse().ok().map(Command),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "0x{:02X}", self.0),
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_both_name_a_command() {
        for command in Command::NAMED {
            assert_eq!(Command::parse(&command.to_string()), Some(*command));
        }
        assert_eq!(Command::parse("echo"), Some(Command::ECHO));
        assert_eq!(Command::parse("0x20"), Some(Command(0x20)));
        assert_eq!(Command::parse("32"), Some(Command(0x20)));
        assert_eq!(Command::parse("256"), None);
        assert_eq!(Command::parse("nonsense"), None);
    }

    #[test]
    fn requests_are_auth_ping_bye_and_all_from_0x10_up() {
        let requests: Vec<u8> = (0..=255).filter(|b| Command(*b).is_request()).collect();
        let expected: Vec<u8> = [1, 3, 6].into_iter().chain(0x10..=0xFF).collect();
        assert_eq!(requests, expected);
    }
}
