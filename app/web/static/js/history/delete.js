/** Deleting a record, with some seconds to think again. */
import { ApiError, call, prepareUnsafe } from "../api.js";
import { toast } from "../ui/toast.js";

const SECONDS = 6;
/** What will be deleted, by id. @type {Map<string, () => void>} */
const pending = new Map();

// Leaving the page does not take back what the person asked for.
addEventListener("pagehide", () => pending.forEach((finish) => finish()));

/**
 * Whether a record that the server still lists is about to go.
 *
 * @param {string} id
 */
export const isPending = (id) => pending.has(id);

/**
 * Delete a record in a moment, unless the person takes it back.
 *
 * @param {{id: string}} item
 * @param {() => void} onBack shows it again: taken back, or the server did not delete it
 */
export function deleteWithUndo(item, onBack) {
  const { finish } = toast("Record deleted.", {
    seconds: SECONDS,
    action: "Undo",
    onAction: () => {
      pending.delete(item.id);
      onBack();
    },
    onEnd: () => remove(item, onBack),
  });
  pending.set(item.id, finish);
  prepareUnsafe();
}

async function remove(item, onBack) {
  try {
    await call("DELETE", `/history/${encodeURIComponent(item.id)}`, { keepalive: true });
    pending.delete(item.id);
  } catch (error) {
    pending.delete(item.id);
    if (!(error instanceof ApiError)) throw error;
    // Gone already, by another tab.
    if (error.status === 404) return;
    toast(`Not deleted. ${error.message}`);
    onBack();
  }
}
