/** Reading and writing CSV as RFC 4180 has it; a semicolon or tab as separator is recognised. */

/**
 * @param {string} text
 * @returns {string[][]} rows of cells
 * @throws {Error} when a quote is not closed
 */
export function parseCsv(text) {
  const source = text.replace(/^\uFEFF/, "");
  const separator = guessSeparator(source);
  const rows = [];
  let row = [];
  let cell = "";
  let quoted = false;
  for (let at = 0; at < source.length; at += 1) {
    const sign = source[at];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (source[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else quoted = false;
    } else if (sign === '"' && cell === "") quoted = true;
    else if (sign === separator) {
      row.push(cell);
      cell = "";
    } else if (sign === "\n" || sign === "\r") {
      if (sign === "\r" && source[at + 1] === "\n") at += 1;
      row.push(cell);
      rows.push(row);
      row = [];
      cell = "";
    } else cell += sign;
  }
  if (quoted) throw new Error("The CSV file has a quotation mark that is never closed.");
  if (cell !== "" || row.length) rows.push([...row, cell]);
  return rows.filter((cells) => cells.some((each) => each !== ""));
}

/**
 * @param {Array<Array<string|number>>} rows
 * @returns {string}
 */
export function writeCsv(rows) {
  return rows.map((cells) => cells.map((cell) => quote(String(cell))).join(",")).join("\r\n") + "\r\n";
}

function quote(cell) {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

function guessSeparator(source) {
  const line = source.slice(0, source.search(/[\r\n]|$/)).replace(/"[^"]*"/g, "");
  const counts = [",", ";", "\t"].map((sign) => [sign, line.split(sign).length]);
  return /** @type {string} */ (counts.sort((one, other) => Number(other[1]) - Number(one[1]))[0][0]);
}
