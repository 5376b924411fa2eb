//! Rows of cells as lines, for people.

use unicode_width::UnicodeWidthStr as _;

use super::styled::Styled;

/// Between two columns.
const GAP: usize = 2;

/// Each cell in a column as wide as its widest cell, and at most as wide as `most` says of it. What
/// a row has beyond those columns follows as it is.
#[must_use]
pub fn table(rows: &[Vec<Styled>], most: &[usize]) -> Vec<Styled> {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        let widest = cells.map(|cell| cell.text().width()).max();
        widest.unwrap_or(0).min(most[at])
    };
    let widths: Vec<usize> = (0..most.len()).map(width).collect();
    let line = |row: &Vec<Styled>| {
        let mut line = Styled::default();
        for (at, cell) in row.iter().enumerate() {
            let Some(&width) = widths.get(at) else {
                line = line.join(cell);
                continue;
            };
            let cell = cell.fit(width);
            let pad = (width + GAP).saturating_sub(cell.text().width());
            line = line.join(&cell).plus(&" ".repeat(pad));
        }
        let end = line.text().trim_end().to_owned();
        line.reshaped(end)
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_and_no_wider_than_allowed() {
        let row = |cells: [&str; 3]| cells.map(Styled::from).to_vec();
        let rows = [
            row(["name", "state", ""]),
            row(["lb-1", "running", "and so on"]),
            row(["a-long-name", "off", ""]),
        ];
        let lines: Vec<String> = table(&rows, &[8, 20])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            lines,
            [
                "name      state",
                "lb-1      running  and so on",
                "a-lon...  off"
            ]
        );
    }
}
