//! `retinanet data`: a look at data before training on it.

pub(crate) mod preview;

use crate::Status;
use crate::args::DataCommand;

pub(crate) fn run(command: &DataCommand) -> anyhow::Result<Status> {
    match command {
        DataCommand::Preview(args) => preview::run(args),
    }
}
