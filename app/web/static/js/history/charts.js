/** Use over time, labels and latency, as the server sums them up for the filter. */
import { ApiError, call, isAbort } from "../api.js";
import { recall, remember } from "../prefs.js";
import { bars } from "../ui/bars.js";
import { barChart } from "../ui/barchart.js";
import { fill, h } from "../ui/dom.js";
import { count, day, ms } from "../ui/format.js";

/**
 * @param {HTMLElement} place
 * @param {{from: string, to: string}} span of the list; the server's own when empty
 * @param {AbortSignal} signal
 */
export async function historyCharts(place, span, signal) {
  try {
    const { data } = await call("GET", "/history/summary", { query: span, signal });
    fill(place, data.days.length > 0 && charts(data));
  } catch (error) {
    if (isAbort(error)) return;
    // The list below says what went wrong; the charts are an extra.
    if (error instanceof ApiError) fill(place);
    else throw error;
  }
}

function charts({ days, labels, models, latency_ms: latency }) {
  const total = days.reduce((sum, each) => sum + each.count, 0);
  const most = Math.max(1, ...labels.map((each) => each.count));
  return h(
    "details.more.card.card-tight.history-charts",
    {
      open: recall("history.charts", true),
      ontoggle: (event) => remember("history.charts", event.currentTarget.open),
    },
    h("summary", {}, `${count(total, "record")} in figures`),
    h(
      "div.chart-grid",
      {},
      h(
        "figure.chart-cell",
        {},
        h("figcaption.field-label", {}, "Use by day"),
        barChart(fillDays(days), "Records by day"),
      ),
      h(
        "figure.chart-cell",
        {},
        h("figcaption.field-label", {}, "Labels"),
        bars(
          labels.slice(0, 6).map(({ label, count: number }) => ({
            label,
            share: number / most,
            words: number.toLocaleString(),
          })),
          { topFirst: false },
        ),
      ),
      h(
        "figure.chart-cell",
        {},
        h("figcaption.field-label", {}, "Latency"),
        latency
          ? h("dl.figures", {}, figure("median", ms(latency.p50)), figure("95th percentile", ms(latency.p95)))
          : h("p.small.muted", {}, "Of texts and pictures; there are none yet."),
        models?.length > 0 &&
          h(
            "p.small.muted",
            {},
            models.map(({ model, count: number }) => `${model}: ${number.toLocaleString()}`).join(", "),
          ),
      ),
    ),
  );
}

function figure(name, value) {
  return h("div.figure", {}, h("dt", {}, name), h("dd.num", {}, value));
}

/** Days without a record are part of the picture; of a long time, the last two months are shown. */
function fillDays(days) {
  const byDay = new Map(days.map((each) => [each.date, each.count]));
  const rows = [];
  const last = new Date(`${new Date().toISOString().slice(0, 10)}T00:00:00Z`);
  const first = new Date(`${days[0].date}T00:00:00Z`);
  const span = Math.min(60, Math.max(14, Math.round((last.getTime() - first.getTime()) / 86_400_000) + 1));
  for (let back = span - 1; back >= 0; back -= 1) {
    const date = new Date(last.getTime() - back * 86_400_000);
    const key = date.toISOString().slice(0, 10);
    rows.push({ name: day(`${key}T12:00:00`), value: byDay.get(key) ?? 0 });
  }
  return rows;
}
