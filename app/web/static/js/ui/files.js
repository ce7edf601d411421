/** Handing things to the person: downloads and the clipboard. */
import { toast } from "./toast.js";

/**
 * @param {Blob|string} content
 * @param {string} name
 * @param {string} [type]
 */
export function download(content, name, type = "text/plain") {
  const blob = content instanceof Blob ? content : new Blob([content], { type: `${type};charset=utf-8` });
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser reads the address after the click returns.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * @param {string} text
 * @param {string} what named in the confirmation
 */
export async function copy(text, what = "Copied") {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https the clipboard interface is missing; the old command still works.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) {
      toast("The browser did not allow copying.");
      return;
    }
  }
  toast(what === "Copied" ? what : `${what} copied`);
}

/** A time stamp for file names: 2026-11-22_14-05-09. */
export const stamp = () => new Date().toISOString().slice(0, 19).replace("T", "_").replaceAll(":", "-");

/** @param {string} name a file's name without its ending */
export const stem = (name) => name.replace(/\.[^.]+$/, "");
