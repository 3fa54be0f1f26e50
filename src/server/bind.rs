//! Listening sockets for every worker, bound here; those that are passed to us are in `inherited`.

use std::net::TcpListener;

use super::StartError;
use super::inherited::Sockets;
use crate::config::{Config, Steering};
use crate::reactor;

/// Every worker's listeners, and the addresses that they share.
pub(super) fn bind_all(config: &Config) -> Result<Sockets, StartError> {
    let mut addresses = Vec::new();
    let mut listeners: Vec<Vec<TcpListener>> = (0..config.workers).map(|_| Vec::new()).collect();
    for address in &config.listen {
        let mut address = *address;
        for (worker, own) in listeners.iter_mut().enumerate() {
            let cpu = config.cpu(worker).filter(|_| config.sockets.steering == Steering::Cpu);
            let bound = reactor::bind(address, config.backlog, &config.sockets, cpu);
            let bound = bound.and_then(|l| Ok((l.local_addr()?, l)));
            let (actual, listener) = bound.map_err(|error| {
                StartError::System(format!("listen on {address}: {error}; set TIDEGATE_LISTEN to a free address"))
            })?;
            address = actual; // port 0: the first worker's choice is everybody's
            own.push(listener);
        }
        addresses.push(address);
    }
    if let Some(first) = listeners.first().and_then(|own| own.first()) {
        reactor::shortfalls(first, &config.sockets).iter().for_each(|told| log::warn!("{told}"));
    }
    Ok(Sockets { addresses, listeners, kept: false })
}
