/** Live detection (`#/live?source=camera&mode=exact&threshold=0.5&labels=cat,dog`). */
import { call, isAbort } from "../api.js";
import { setLabelOrder } from "../detect/colors.js";
import { usefulLabels } from "../detect/controls.js";
import { livePanel } from "../live/panel.js";
import { canBeWritten, openPad } from "../live/pad.js";
import { FramePump } from "../live/pump.js";
import { Recorder } from "../live/recorder.js";
import { listCameras, openCamera, openFile, openScreen } from "../live/sources.js";
import { Stage } from "../live/stage.js";
import { StreamStats } from "../live/stats.js";
import { streamStatus } from "../live/status.js";
import { DetectionStream } from "../live/stream.js";
import { statsStrip } from "../live/strip.js";
import { liveToolbar } from "../live/toolbar.js";
import { recall, remember } from "../prefs.js";
import { keepQuery } from "../router.js";
import { session } from "../session.js";
import { fill, h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";
import { briefNotice } from "../ui/states.js";
import { signInFirst } from "./auth.js";

const SETTINGS_WAIT_MS = 150;
const STRIP_EVERY_MS = 500;

/**
 * @param {HTMLElement} root
 * @param {import("../router.js").Visit} visit
 */
export async function mount(root, { query, signal }) {
  if (!session.mayPredict) {
    fill(root, signInFirst("Live detection", "Sign in to point a camera at the detector."));
    return;
  }
  const model = await session.model("object-detection");
  if (signal.aborted) return;
  setLabelOrder(model?.labels ?? []);
  new LiveView(root, model, query, signal);
}

class LiveView {
  /** @type {import("../live/sources.js").Source|null} */
  #source = null;
  /** @type {DetectionStream|null} */
  #stream = null;
  /** @type {FramePump|null} */
  #pump = null;
  #stats = new StreamStats();
  #recorder = new Recorder();
  #settingsTimer = 0;
  #starting = 0;

  constructor(root, model, query, signal) {
    this.signal = signal;
    this.options = readOptions(query, usefulLabels(model));
    this.stage = new Stage(signal);
    this.stage.choice = { threshold: this.options.threshold, labels: this.options.labels };
    this.status = streamStatus({ onRetry: () => this.#stream?.retryNow(), signal });
    this.strip = statsStrip();
    this.toolbar = liveToolbar({
      onStart: () => (this.#source ? this.stop() : this.start()),
      onSnapshot: () => this.stage.snapshot(),
      onFullscreen: () => this.stage.element.requestFullscreen?.(),
      recorder: this.#recorder,
    });
    this.panel = livePanel({
      labels: usefulLabels(model),
      options: this.options,
      onChange: (change) => this.change(change),
      onFile: (file) => this.start(file),
    });
    this.placeholder = this.#placeholder(usefulLabels(model));
    this.stage.element.append(this.placeholder, this.status.message);
    fill(
      root,
      h("div.view-head", {}, h("div", {}, h("h1", { tabindex: -1 }, "Live detection")), this.status.pill),
      briefNotice(model),
      h(
        "div.live",
        {},
        h("div.live-main", {}, this.stage.element, this.toolbar.element, this.strip.element),
        this.panel.element,
      ),
    );
    const clock = setInterval(() => this.#measure(), STRIP_EVERY_MS);
    signal.addEventListener("abort", () => {
      clearInterval(clock);
      this.stop();
    });
    this.showCameras();
    navigator.mediaDevices?.addEventListener("devicechange", () => this.showCameras(), { signal });
  }

  /** What the stage offers while nothing runs. */
  #placeholder(labels) {
    const pick = (source) => {
      this.panel.pickSource(source);
      this.start();
    };
    const other = (source, sign, words) =>
      h("button.btn.btn-small", { type: "button", onclick: () => pick(source) }, icon(sign, 15), words);
    return h(
      "div.stage-idle",
      {},
      h(
        "button.stage-start",
        { type: "button", onclick: () => this.start() },
        icon("play", 36),
        h("span", {}, "Start detection"),
      ),
      h(
        "div.stage-other",
        {},
        canBeWritten(labels) && other("pad", "pen", "Write digits by hand"),
        // Browsers on phones have none to share.
        navigator.mediaDevices?.getDisplayMedia && other("screen", "screen", "Share a screen"),
        other("file", "film", "Play a video"),
      ),
    );
  }

  async showCameras() {
    this.panel.showCameras(await listCameras(), this.#source?.deviceId ?? recall("camera", null));
  }

  /** @param {File} [file] a video to play instead of the chosen source */
  async start(file) {
    if (file) this.options.source = "file";
    else if (this.options.source === "file") {
      this.panel.pickFile();
      return;
    }
    this.stop();
    this.#starting += 1;
    const attempt = this.#starting;
    this.status.say("Opening the picture…");
    try {
      const source = file
        ? openFile(file)
        : await this.#open(this.options.source);
      // Meanwhile the view was left, or something else was started.
      if (this.signal.aborted || attempt !== this.#starting) {
        source.stop();
        return;
      }
      this.#source = source;
      source.onEnd(() => {
        this.stop();
        this.status.say(
          source.kind === "screen"
            ? "Sharing of the screen ended."
            : "The camera was unplugged or taken away.",
        );
      });
      if (source.overlay) this.stage.video.after(source.overlay);
      await source.attach(this.stage.video);
      if (source.kind === "camera") {
        remember("camera", source.deviceId ?? null);
        this.showCameras();
      }
      this.#connect();
    } catch (error) {
      if (isAbort(error) || this.signal.aborted) return;
      this.stop();
      this.status.say(error.message);
    }
  }

  #open(source) {
    if (source === "pad") return openPad();
    return source === "screen" ? openScreen() : openCamera(recall("camera", null));
  }

  stop() {
    this.#starting += 1;
    this.#pump?.stop();
    this.#stream?.close();
    this.#source?.stop();
    if (this.#recorder.recording) this.toolbar.finishRecording();
    this.#pump = null;
    this.#stream = null;
    this.#source = null;
    this.stage.video.srcObject = null;
    this.stage.clear();
    this.#showRunning(false);
  }

  /** @param {Partial<import("../live/panel.js").LiveOptions>} change */
  change(change) {
    Object.assign(this.options, change);
    const { source, mode, threshold, labels, side } = this.options;
    keepQuery({ source, mode, threshold, labels });
    remember("live", { source, mode, threshold, side });
    this.stage.choice = { threshold, labels };
    this.#applyMode();
    if ("side" in change) this.#pump?.pacer.fix(side);
    if ("threshold" in change || "labels" in change) {
      // The picture follows at once; the server is told when the slider rests.
      clearTimeout(this.#settingsTimer);
      this.#settingsTimer = setTimeout(() => this.#stream?.set(this.#serverSettings()), SETTINGS_WAIT_MS);
    }
    if ("camera" in change) remember("camera", change.camera);
    if (("source" in change || "camera" in change) && this.#source) this.start();
  }

  #applyMode() {
    const mode = this.#source?.kind === "pad" ? "live" : this.options.mode;
    this.stage.mode = mode;
    this.stage.draw();
    if (this.#pump) this.#pump.keepsPictures = mode === "exact";
  }

  #serverSettings() {
    const { threshold, labels } = this.options;
    return { threshold, labels };
  }

  #connect() {
    this.#stats = new StreamStats();
    const stream = new DetectionStream(`${location.origin.replace(/^http/, "ws")}/object-detection`, {
      onAnswer: (answer, frame) => this.#receive(answer, frame),
      onLost: (frames) => frames.forEach((frame) => this.#pump?.recycle(frame)),
      onStatus: (status) => this.#follow(status),
      allowed: () =>
        call("GET", "/me").then(
          () => true,
          (error) => error.status !== 401 || session.anonymous,
        ),
    });
    this.#stream = stream;
    this.#pump = new FramePump(this.stage.video, stream);
    this.#pump.pacer.fix(this.options.side);
    this.#applyMode();
    stream.set(this.#serverSettings());
    stream.open();
    this.#pump.start();
    this.#showRunning(true);
  }

  #follow(status) {
    this.status.show(status);
    if (status.code === 1009) this.#pump?.pacer.shrink();
    if (status.state === "open") this.#pump?.nudge();
    if (status.state === "waiting") this.#stats.newConnection();
    if (status.state === "closed" && status.words) {
      this.stop();
      this.status.show(status);
      if (status.code === 1008 && !session.anonymous) session.refresh().catch(() => {});
    }
  }

  #receive(answer, frame) {
    const now = performance.now();
    this.#stats.setDropped(answer.dropped ?? 0);
    if (answer.error || !frame) {
      this.#stats.failed += 1;
      this.status.say(answer.error?.detail ?? "");
      this.#pump?.recycle(frame);
    } else {
      const { timing } = answer;
      const roundTripMs = now - frame.sentAt;
      this.#stats.add({
        at: now,
        roundTripMs,
        ageMs: now - frame.takenAt,
        decodeMs: timing.decode_ms,
        queueMs: timing.queue_ms,
        inferenceMs: timing.inference_ms,
      });
      this.#pump?.pacer.learn({ roundTripMs, encodeMs: frame.encodeMs, timing });
      this.#pump?.recycle(this.stage.show(answer, frame));
      this.status.say("");
      const takenAt = new Date(performance.timeOrigin + frame.takenAt).toISOString();
      if (!this.#recorder.add(answer, { takenAt, source: this.#source?.name ?? "" }) && this.#recorder.count)
        this.toolbar.finishRecording();
      this.panel.showObjects(this.stage.visible);
    }
    this.#pump?.nudge();
  }

  #measure() {
    if (!this.#stream) return;
    this.strip.update(this.#stats, performance.now());
    this.panel.showSize(this.#pump?.pacer.size ?? null, this.stage.video);
    this.toolbar.showRecording();
  }

  #showRunning(running) {
    this.toolbar.showRunning(running);
    this.placeholder.hidden = running;
    this.stage.element.dataset.state = running ? "running" : "idle";
    if (!running) this.panel.showObjects(null);
    if (running && this.placeholder.contains(document.activeElement)) this.toolbar.focus();
  }
}

/** @returns {import("../live/panel.js").LiveOptions} */
function readOptions(query, labels) {
  const kept = recall("live", /** @type {Record<string, any>} */ ({}));
  const pick = (name, allowed) =>
    [query.get(name), kept[name]].find((value) => allowed.includes(value)) ?? allowed[0];
  const threshold = Number(query.get("threshold") ?? kept.threshold);
  return {
    source: pick("source", ["camera", "screen", "file", ...(canBeWritten(labels) ? ["pad"] : [])]),
    mode: pick("mode", ["exact", "live"]),
    threshold: threshold >= 0.05 && threshold <= 0.95 ? threshold : 0.5,
    labels: (query.get("labels") ?? "").split(",").filter((label) => labels.includes(label)),
    side: kept.side ?? null,
  };
}
