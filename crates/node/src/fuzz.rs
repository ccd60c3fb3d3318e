//! Doors for the fuzz targets (`fuzz/`): what nobody else may call.

use crate::journey::transfer::ImageParts;
use image::Process;

/// An image, as it comes in one frame.
pub fn image(payload: &[u8]) -> Option<Process> {
    ImageParts::default().take(payload).ok().flatten()
}

/// Whether pages of this frame may be written to a process of this image, and where if so.
pub fn pages(payload: &[u8], image: &Process) -> Option<wire::session::Pages> {
    Some(crate::journey::transfer::read_pages(payload, image).ok()?.0)
}

/// The lines of a tool or an agent.
pub fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = std::io::BufReader::new(bytes);
    let mut lines = Vec::new();
    while let Ok(Some(line)) = crate::daemon::lines::read(&mut reader) {
        lines.push(line);
    }
    lines
}
