/** Where moving pictures come from: a camera, a shared screen, a video file; see pad.js for one to write on. */

/**
 * @typedef {object} Source
 * @property {"camera"|"screen"|"file"|"pad"} kind
 * @property {string} name
 * @property {(video: HTMLVideoElement) => Promise<void>} attach play it in this element
 * @property {() => void} stop give the device back
 * @property {(listener: () => void) => void} onEnd called when it ends by itself: unplugged, sharing stopped
 * @property {string} [deviceId]
 * @property {HTMLElement} [overlay] lies over the video while the source is open
 */

/** Why a source could not be opened, in words for the person. */
export class SourceError extends Error {}

/**
 * The cameras of this machine. Names are empty until the person has once allowed the camera.
 *
 * @returns {Promise<MediaDeviceInfo[]>}
 */
export async function listCameras() {
  if (!navigator.mediaDevices?.enumerateDevices) return [];
  return (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
}

/**
 * @param {string|null} deviceId null for the browser's own choice
 * @returns {Promise<Source>}
 */
export async function openCamera(deviceId) {
  mustHaveDevices();
  const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  try {
    const device = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: { ideal: "environment" } };
    return fromStream(
      "camera",
      await navigator.mediaDevices.getUserMedia({ video: { ...wanted, ...device } }),
    );
  } catch (error) {
    // The remembered camera may be unplugged: any other is better than none.
    if (deviceId && (error.name === "OverconstrainedError" || error.name === "NotFoundError"))
      return openCamera(null);
    throw inWords(error, "camera");
  }
}

/** @returns {Promise<Source>} */
export async function openScreen() {
  mustHaveDevices();
  if (!navigator.mediaDevices.getDisplayMedia) throw new SourceError("This browser cannot share a screen.");
  try {
    return fromStream(
      "screen",
      await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30 } }, audio: false }),
    );
  } catch (error) {
    throw inWords(error, "screen");
  }
}

/**
 * @param {File} file
 * @returns {Source}
 */
export function openFile(file) {
  const url = URL.createObjectURL(file);
  /** @type {HTMLVideoElement|null} */
  let playing = null;
  return {
    kind: "file",
    name: file.name,
    async attach(video) {
      playing = video;
      video.srcObject = null;
      video.loop = true;
      video.src = url;
      try {
        await video.play();
      } catch (error) {
        if (error.name === "AbortError") return;
        throw new SourceError(
          `The browser cannot play “${file.name}”. MP4 (H.264) and WebM play everywhere.`,
        );
      }
    },
    stop() {
      playing?.pause();
      playing?.removeAttribute("src");
      playing?.load();
      URL.revokeObjectURL(url);
    },
    onEnd() {
      // It loops.
    },
  };
}

/** @returns {Source} */
function fromStream(kind, stream) {
  const [track] = stream.getVideoTracks();
  return {
    kind,
    name: track.label || (kind === "camera" ? "Camera" : "Screen"),
    deviceId: track.getSettings().deviceId,
    async attach(video) {
      video.removeAttribute("src");
      video.srcObject = stream;
      await video.play().catch((error) => {
        if (error.name !== "AbortError") throw error;
      });
    },
    stop: () => stream.getTracks().forEach((each) => each.stop()),
    onEnd: (listener) => track.addEventListener("ended", listener),
  };
}

function mustHaveDevices() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new SourceError(
      "Browsers give a page the camera and the screen only over https or from localhost. Open this page that way; a video file works here too.",
    );
  }
}

function inWords(error, what) {
  const words = {
    NotAllowedError:
      what === "camera"
        ? "The camera is not allowed for this page. Allow it in the browser's address bar, then start again."
        : "No screen was shared.",
    NotFoundError: "No camera was found. Plug one in, or use a screen or a video file.",
    NotReadableError: "The camera is in use by another program.",
    AbortError: "The browser gave up opening the picture. Try again.",
  };
  return new SourceError(words[error.name] ?? error.message);
}
