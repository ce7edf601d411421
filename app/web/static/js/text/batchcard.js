/** The card for a file of texts: .txt (one a line) or .csv (a column), with progress and a CSV back. */
import { isAbort } from "../api.js";
import { fill, h, uid } from "../ui/dom.js";
import { download, stem } from "../ui/files.js";
import { count, percent } from "../ui/format.js";
import { icon } from "../ui/icons.js";
import { errorBanner } from "../ui/states.js";
import { classifyAll } from "./batch.js";
import { parseCsv, writeCsv } from "./csv.js";

const ROWS_SHOWN = 50;
const LARGEST_FILE = 50e6;
const TEXT_COLUMNS = ["text", "message", "content", "body", "document"];

/** @typedef {{name: string, header: string[], rows: string[][], column: number}} Table */

/** @param {{signal: AbortSignal}} options */
export function batchCard({ signal }) {
  const place = h("div.stack");
  const input = h("input.visually-hidden", {
    type: "file",
    accept: ".txt,.csv,text/plain,text/csv",
    tabindex: -1,
    "aria-label": "File of texts",
    onchange: () => {
      if (input.files[0]) take(input.files[0]);
      input.value = "";
    },
  });
  const card = h(
    "section.card.stack.batch",
    {
      ondragover: (event) => {
        event.preventDefault();
        card.classList.add("dragging");
      },
      ondragleave: () => card.classList.remove("dragging"),
      ondrop: (event) => {
        event.preventDefault();
        card.classList.remove("dragging");
        if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
      },
    },
    h(
      "div.row-between",
      {},
      h(
        "div",
        {},
        h("h2", {}, "Many at once"),
        h(
          "p.small.muted",
          {},
          "A .txt file with one text a line, or a .csv with a column of texts. You get a CSV back.",
        ),
      ),
      h(
        "div",
        {},
        input,
        h(
          "button.btn",
          { type: "button", onclick: () => input.click() },
          icon("upload", 16),
          "Choose a file",
        ),
      ),
    ),
    place,
  );

  async function take(file) {
    try {
      const table = await readTable(file);
      fill(place, plan(table));
    } catch (error) {
      fill(place, errorBanner(error));
    }
  }

  function plan(table) {
    const id = uid("column");
    const select = h(
      "select.input",
      { id },
      table.header.map((name, at) => h("option", { value: at }, name)),
    );
    select.value = String(table.column);
    return [
      h("div.row", {}, h("strong", {}, table.name), h("span.muted", {}, count(table.rows.length, "text"))),
      table.header.length > 1 &&
        h("div.field.narrow", {}, h("label", { for: id }, "Column with the texts"), select),
      h(
        "div",
        {},
        h(
          "button.btn.btn-primary",
          { type: "button", onclick: () => run({ ...table, column: Number(select.value) }) },
          `Classify ${count(table.rows.length, "text")}`,
        ),
      ),
    ];
  }

  async function run(table) {
    const stopping = new AbortController();
    signal.addEventListener("abort", () => stopping.abort());
    // The server refuses empty texts; they keep their row and get no category.
    const filled = table.rows.filter((row) => (row[table.column] ?? "").trim());
    /** @type {any[]} */
    const answers = [];
    const bar = h("div");
    const words = h("p.small.num", { role: "status" });
    const meter = h(
      "div.progress",
      {
        role: "progressbar",
        "aria-label": "Texts classified",
        "aria-valuemin": 0,
        "aria-valuemax": filled.length,
      },
      bar,
    );
    const progress = () => {
      bar.style.width = `${(100 * answers.length) / Math.max(1, filled.length)}%`;
      meter.setAttribute("aria-valuenow", String(answers.length));
      words.textContent = `${answers.length.toLocaleString()} of ${count(filled.length, "text")}`;
    };
    const stop = h("button.btn.btn-small", { type: "button", onclick: () => stopping.abort() }, "Stop");
    fill(place, meter, h("div.row-between", {}, words, stop));
    progress();
    let problem = null;
    try {
      await classifyAll(
        filled.map((row) => row[table.column]),
        (some) => {
          answers.push(...some);
          progress();
        },
        stopping.signal,
      );
    } catch (error) {
      // What is done is not lost: it can be downloaded as it is.
      problem = isAbort(error) ? new Error(`Stopped after ${count(answers.length, "text")}.`) : error;
    }
    if (signal.aborted) return;
    const byRow = new Map(filled.slice(0, answers.length).map((row, at) => [row, answers[at]]));
    fill(place, problem && errorBanner(problem), byRow.size > 0 && outcome(table, byRow));
  }
  return card;
}

function outcome(table, byRow) {
  const labels = Object.keys([...byRow.values()][0].probabilities);
  const counts = labels.map((label) => [
    label,
    [...byRow.values()].filter(({ category }) => category === label).length,
  ]);
  const done = table.rows.filter((row) => byRow.has(row));
  const save = () => {
    const lines = table.rows.map((row) => {
      const answer = byRow.get(row);
      return [
        ...table.header.map((_, at) => row[at] ?? ""),
        answer?.category ?? "",
        answer ? answer.probabilities[answer.category] : "",
        ...labels.map((label) => answer?.probabilities[label] ?? ""),
      ];
    });
    download(
      writeCsv([
        [...table.header, "category", "probability", ...labels.map((label) => `p(${label})`)],
        ...lines,
      ]),
      `${stem(table.name)}_categories.csv`,
      "text/csv",
    );
  };
  return [
    h(
      "div.row-between",
      {},
      h(
        "p",
        {},
        h("strong", {}, count(byRow.size, "text")),
        " classified: ",
        counts.map(([label, number]) => `${label} ${number}`).join(", "),
        ".",
      ),
      h("button.btn.btn-primary", { type: "button", onclick: save }, icon("download", 16), "Download CSV"),
    ),
    h(
      "div.table-wrap",
      { tabindex: 0, role: "region", "aria-label": "Results" },
      h(
        "table.table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Text"),
            h("th", { scope: "col" }, "Category"),
            h("th.end", { scope: "col" }, "Probability"),
          ),
        ),
        h(
          "tbody",
          {},
          done.slice(0, ROWS_SHOWN).map((row) => {
            const { category, probabilities } = byRow.get(row);
            return h(
              "tr",
              {},
              h("td.clip", {}, row[table.column]),
              h("td", {}, category),
              h("td.end", {}, percent(probabilities[category])),
            );
          }),
        ),
      ),
    ),
    done.length > ROWS_SHOWN && h("p.small.muted", {}, `The first ${ROWS_SHOWN}; all are in the CSV.`),
  ];
}

/**
 * @param {File} file
 * @returns {Promise<Table>}
 */
async function readTable(file) {
  if (file.size > LARGEST_FILE) throw new Error("The file is larger than 50 MB. Split it, or use the API.");
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Error(`“${file.name}” is not UTF-8 text. Save it as UTF-8 and choose it again.`);
  }
  if (!/\.csv$/i.test(file.name)) {
    const rows = text
      .split(/\r\n|\r|\n/)
      .filter((line) => line.trim())
      .map((line) => [line]);
    if (!rows.length) throw new Error(`“${file.name}” has no text in it.`);
    return { name: file.name, header: ["text"], rows, column: 0 };
  }
  const cells = parseCsv(text);
  const named = cells[0]?.findIndex((name) => TEXT_COLUMNS.includes(name.trim().toLowerCase())) ?? -1;
  // Without a name we know, a first line of short cells over longer ones is taken for the header.
  const hasHeader =
    named >= 0 ||
    (cells.length > 1 &&
      cells[0].every((name) => name.length > 0 && name.length < 40) &&
      cells[1].some((cell) => cell.length >= 40));
  const width = Math.max(0, ...cells.map((row) => row.length));
  const header = Array.from(
    { length: width },
    (_, at) => (hasHeader && cells[0][at]?.trim()) || `column ${at + 1}`,
  );
  const rows = hasHeader ? cells.slice(1) : cells;
  if (!rows.length) throw new Error(`“${file.name}” has no rows.`);
  return { name: file.name, header, rows, column: named >= 0 ? named : longestColumn(rows, width) };
}

function longestColumn(rows, width) {
  const lengths = Array.from({ length: width }, (_, at) =>
    rows.slice(0, 100).reduce((sum, row) => sum + (row[at]?.length ?? 0), 0),
  );
  return lengths.indexOf(Math.max(...lengths));
}
