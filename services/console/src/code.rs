//! QR codes (ISO/IEC 18004) in character cells: one cell is one module wide and two high.
//!
//! Light modules are drawn, dark ones are the background of a terminal. Around every code is the
//! quiet zone of four light modules that scanners need. Pure; called by `views::evidence`.

use hookprobe_wire::qr;
use qrcodegen::{QrCode, QrCodeEcc, QrSegment, Version};

/// Light modules around a code (ISO/IEC 18004 section 9.1).
pub const QUIET: u16 = 4;
/// Characters that alphanumeric mode holds in versions 1 to 10 at level L (ISO/IEC 18004 table 7).
/// Larger codes are too dense for a camera in front of a screen.
const CHARS: [usize; 10] = [25, 47, 77, 114, 154, 195, 224, 279, 335, 395];

/// Modules of a side of a code of that version.
const fn side(version: u16) -> u16 {
    17 + 4 * version
}

/// Lines whose codes fit in so many cells; none when they would be too small or too many.
#[must_use]
pub fn lines(bytes: &[u8], columns: u16, rows: u16) -> Option<Vec<String>> {
    let room = columns.min(rows.saturating_mul(2));
    let fits = (1..).zip(CHARS).take_while(|(version, _)| side(*version) + 2 * QUIET <= room);
    let (_, chars) = fits.last()?;
    qr::split(bytes, chars).ok()
}

/// Rows of half blocks: the code of one line with its quiet zone.
#[must_use]
pub fn rows(line: &str) -> Option<Vec<String>> {
    if !QrSegment::is_alphanumeric(line) {
        return None;
    }
    let segments = [QrSegment::make_alphanumeric(line)];
    let last = u8::try_from(CHARS.len()).ok().map(Version::new)?;
    let low = QrCodeEcc::Low;
    let code =
        QrCode::encode_segments_advanced(&segments, low, Version::MIN, last, None, true).ok()?;
    let quiet = i32::from(QUIET);
    let all = -quiet..code.size() + quiet;
    // Outside of the code every module is light, the half row below an odd one too.
    let light = |x, y| !code.get_module(x, y);
    let cell = |x, y| match (light(x, y), light(x, y + 1)) {
        (true, true) => '\u{2588}',
        (true, false) => '\u{2580}',
        (false, true) => '\u{2584}',
        (false, false) => ' ',
    };
    Some(all.clone().step_by(2).map(|y| all.clone().map(|x| cell(x, y)).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a camera reads is tested on whole screens, in `tests/screens.rs`.
    #[test]
    fn codes_fit_and_larger_terminals_need_fewer() {
        for (columns, rows_max, count) in [(60, 19, 26), (80, 23, 12), (132, 42, 4)] {
            let lines = lines(&[0xa5; 900], columns, rows_max).unwrap();
            assert_eq!(lines.len(), count, "{columns}x{rows_max}");
            for line in lines {
                let rows = rows(&line).unwrap();
                assert!(rows.len() <= usize::from(rows_max));
                assert!(rows[0].chars().count() <= usize::from(columns));
            }
        }
    }

    #[test]
    fn the_quiet_zone_is_four_modules_and_light() {
        let rows = rows("HPQ1:1:1:00000000:MY").unwrap();
        let cells: Vec<Vec<char>> = rows.iter().map(|row| row.chars().collect()).collect();
        let light = |cells: &[char]| cells.iter().all(|cell| *cell == '\u{2588}');
        let quiet = usize::from(QUIET);
        assert!(cells[..quiet / 2].iter().all(|row| light(row)));
        assert!(light(&cells[cells.len() - quiet / 2]) && light(&cells[cells.len() - 1]));
        assert!(cells.iter().all(|row| light(&row[..quiet]) && light(&row[row.len() - quiet..])));
        assert!(!light(&cells[quiet / 2]));
    }

    #[test]
    fn no_room_no_code() {
        assert_eq!(lines(&[0; 9], 28, 80), None);
        assert_eq!(lines(&[0; 2000], 29, 15), None);
        assert_eq!(rows("lower case"), None);
    }
}
