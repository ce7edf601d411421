/** The buttons under the live picture. */
import { fill, h } from "../ui/dom.js";
import { download, stamp } from "../ui/files.js";
import { icon } from "../ui/icons.js";
import { toast } from "../ui/toast.js";

/**
 * @param {{onStart: () => void, onSnapshot: () => Promise<Blob>, onFullscreen: () => void,
 *          recorder: import("./recorder.js").Recorder}} options onStart starts or stops
 */
export function liveToolbar({ onStart, onSnapshot, onFullscreen, recorder }) {
  const startButton = h("button.btn.btn-primary", { type: "button", onclick: onStart });
  const snapshotButton = h(
    "button.btn",
    {
      type: "button",
      title: "Save the picture with its boxes as PNG",
      onclick: async () => {
        try {
          download(await onSnapshot(), `lookout_${stamp()}.png`);
        } catch (error) {
          toast(error.message);
        }
      },
    },
    icon("camera", 16),
    "Snapshot",
  );
  const recordButton = h("button.btn", {
    type: "button",
    "aria-pressed": "false",
    title: "Record the detections as JSON Lines",
    onclick: () => (recorder.recording ? finishRecording() : startRecording()),
  });
  const recordWords = h("span");
  const fullscreenButton = h(
    "button.btn.btn-icon",
    { type: "button", "aria-label": "Full screen", title: "Full screen", onclick: onFullscreen },
    icon("expand", 16),
  );
  fill(recordButton, icon("record", 16), recordWords);

  function startRecording() {
    recorder.start();
    showRecording();
  }

  /** Stop recording and hand the lines over. */
  function finishRecording() {
    const lines = recorder.count;
    const blob = recorder.stop();
    showRecording();
    if (lines) download(blob, `lookout_${stamp()}.jsonl`);
    else toast("Nothing was recorded.");
  }

  function showRecording() {
    recordButton.setAttribute("aria-pressed", String(recorder.recording));
    recordButton.classList.toggle("recording", recorder.recording);
    recordWords.textContent = recorder.recording
      ? `Save ${recorder.count.toLocaleString()} (${recorder.size})`
      : "Record";
  }

  function showRunning(running) {
    fill(startButton, icon(running ? "stop" : "play", 16), running ? "Stop" : "Start");
    for (const button of [snapshotButton, recordButton, fullscreenButton]) button.disabled = !running;
    showRecording();
  }
  showRunning(false);
  return {
    element: h(
      "div.live-toolbar",
      {},
      startButton,
      snapshotButton,
      recordButton,
      h("span.grow"),
      fullscreenButton,
    ),
    showRunning,
    showRecording,
    finishRecording,
    focus: () => startButton.focus(),
  };
}
