//! Every key and what it does: one table from which keys are looked up, the help screen is made
//! and the hints at the bottom are taken.

use crate::key::Key;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Show a screen, by its digit.
    Screen(u8),
    /// The screen to the left (-1) or right (1).
    Beside(i8),
    /// The next (1) or previous (-1) pane.
    Pane(i8),
    /// Up or down by rows.
    Row(i8),
    /// Up or down by pages.
    Page(i8),
    /// To the first row.
    First,
    /// To the last row.
    Last,
    /// Show the detail of what is selected.
    Detail,
    /// Leave detail, input or help; clear the filter.
    Back,
    /// Type a filter.
    Filter,
    /// Sort by the next column.
    Sort,
    /// Freeze the screen, or let it go.
    Freeze,
    /// Ask for a drill.
    Drill,
    /// Have rules and lists read again.
    Reload,
    /// Have whole evidence written to a USB stick.
    Carry,
    /// Colours on or off.
    Colour,
    /// Show or hide help.
    Help,
    /// Paint everything again.
    Redraw,
    /// Show what was measured and who verified it; the next page of it.
    Measured,
    /// Show the recovery key.
    Recovery,
    /// End the console.
    Quit,
}

/// One row of the table.
#[derive(Debug)]
pub struct Command {
    /// Keys that do it; the first one is the hint's.
    pub keys: &'static [Key],
    /// How the keys are written together; empty: their names.
    pub label: &'static str,
    /// What it does.
    pub what: &'static str,
    /// Word in the hints at the bottom; empty: not there.
    pub hint: &'static str,
    /// What it asks for.
    pub action: Action,
}

const fn command(
    keys: &'static [Key],
    label: &'static str,
    what: &'static str,
    hint: &'static str,
    action: Action,
) -> Command {
    Command { keys, label, what, hint, action }
}

/// All of them.
pub const COMMANDS: &[Command] = &[
    command(&[Key::Char('?')], "", "show or hide this help", "help", Action::Help),
    command(&[Key::Tab], "", "next pane; list and detail", "pane", Action::Pane(1)),
    command(&[Key::BackTab], "", "previous pane", "", Action::Pane(-1)),
    command(&[Key::Enter], "", "detail of the pane or row", "detail", Action::Detail),
    command(&[Key::Esc], "", "back; clears the filter", "back", Action::Back),
    command(&[Key::Char('m')], "", "measurements, evidence", "measured", Action::Measured),
    command(&[Key::Char('R')], "", "recovery key, until noted", "recovery", Action::Recovery),
    command(&[Key::Up, Key::Char('k')], "Up k", "one row up", "", Action::Row(-1)),
    command(&[Key::Down, Key::Char('j')], "Down j", "one row down", "", Action::Row(1)),
    command(&[Key::Left, Key::Char('h')], "Left h", "screen to the left", "", Action::Beside(-1)),
    command(&[Key::Right, Key::Char('l')], "Right l", "screen to the right", "", Action::Beside(1)),
    command(&[Key::PageUp, Key::Char('p')], "PgUp p", "page or code before", "", Action::Page(-1)),
    command(&[Key::PageDown, Key::Char('n')], "PgDn n", "page or code after", "", Action::Page(1)),
    command(&[Key::Home, Key::Char('g')], "Home g", "first row", "", Action::First),
    command(&[Key::End, Key::Char('G')], "End G", "last row", "", Action::Last),
    command(&[Key::Char('/')], "", "filter the list by a word", "filter", Action::Filter),
    command(&[Key::Char('s')], "", "sort by the next column", "sort", Action::Sort),
    command(&[Key::Char(' ')], "", "freeze or unfreeze", "freeze", Action::Freeze),
    command(&[Key::Char('d')], "", "drill: prove the alert path", "drill", Action::Drill),
    command(&[Key::Char('r')], "", "on 7, 8: rules read again", "reload", Action::Reload),
    command(&[Key::Char('w')], "", "on Evidence: all of it to USB", "USB", Action::Carry),
    command(&[Key::Char('c')], "", "colours on or off", "", Action::Colour),
    command(&[Key::Ctrl('l')], "", "paint everything again", "", Action::Redraw),
    command(&[Key::Char('1')], "", "Overview", "", Action::Screen(1)),
    command(&[Key::Char('2')], "", "Alerts", "", Action::Screen(2)),
    command(&[Key::Char('3')], "", "Flows", "", Action::Screen(3)),
    command(&[Key::Char('4')], "", "Ledger", "", Action::Screen(4)),
    command(&[Key::Char('5')], "", "Mesh", "", Action::Screen(5)),
    command(&[Key::Char('6')], "", "Mitigations", "", Action::Screen(6)),
    command(&[Key::Char('7')], "", "Services", "", Action::Screen(7)),
    command(&[Key::Char('8')], "", "Settings", "", Action::Screen(8)),
    command(&[Key::Char('q'), Key::Ctrl('c')], "q", "end the console", "quit", Action::Quit),
];

impl Command {
    /// How the keys are written.
    #[must_use]
    pub fn label(&self) -> String {
        if self.label.is_empty() {
            self.keys.first().map_or_else(String::new, |key| key.name())
        } else {
            self.label.into()
        }
    }
}

/// Commands that exist on this console: there is nothing to quit to on the box.
pub fn commands(allow_quit: bool) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(move |command| allow_quit || command.action != Action::Quit)
}

/// What a key asks for.
#[must_use]
pub fn action(key: Key, allow_quit: bool) -> Option<Action> {
    commands(allow_quit).find(|command| command.keys.contains(&key)).map(|command| command.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_does_two_things() {
        let mut keys: Vec<Key> = Vec::new();
        for key in COMMANDS.iter().flat_map(|command| command.keys) {
            assert!(!keys.contains(key), "{key:?}");
            keys.push(*key);
        }
    }

    #[test]
    fn quit_is_not_on_the_box() {
        assert_eq!(action(Key::Char('q'), false), None);
        assert_eq!(action(Key::Char('q'), true), Some(Action::Quit));
    }
}
