/** Who is signed in, and what the server offers; one object that the views read and listen to. */
import { ApiError, call, forgetCsrf, refusals } from "./api.js";

/** @typedef {{id: string, email: string, created_at: string, is_admin?: boolean}} User */

class Session extends EventTarget {
  /** @type {User|null} */
  user = null;
  /** Whether the server predicts for callers who have not signed in. */
  anonymous = false;
  registrationOpen = true;
  /** Whether the history keeps copies of the pictures that a person uploads. */
  keepsImages = true;
  /** @type {Promise<Array<any>>|null} */
  #models = null;

  /** Learn what the server offers and who is signed in; a server that is away counts as signed out. */
  async start() {
    try {
      const { data } = await call("GET", "/page-settings");
      this.anonymous = data.anonymous_inference;
      this.registrationOpen = data.registration_open;
      this.keepsImages = data.keep_images;
      // Asking who a stranger is would only be refused.
      if (data.has_session) await this.refresh();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  /** Ask the server who is signed in. */
  async refresh() {
    try {
      this.#become((await call("GET", "/me")).data);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // Only a refusal says that the session is over.
      if (error.status === 401) this.#become(null);
    }
  }

  /**
   * @param {string} email
   * @param {string} password
   */
  async signIn(email, password) {
    await call("POST", "/login", { form: { email, password } });
    forgetCsrf();
    await this.refresh();
  }

  /**
   * Make an account and sign in to it.
   *
   * @param {string} email
   * @param {string} password
   */
  async signUp(email, password) {
    await call("POST", "/register", { json: { email, password } });
    await this.signIn(email, password);
  }

  async signOut() {
    await call("POST", "/logout");
    forgetCsrf();
    this.#become(null);
  }

  /** The server no longer knows this session: it ended elsewhere or ran out. */
  expired() {
    forgetCsrf();
    this.#become(null);
  }

  /** Whether predictions can be asked for. */
  get mayPredict() {
    return this.user !== null || this.anonymous;
  }

  /**
   * The models of the server; asked once, and again after an error or with `fresh`.
   *
   * @param {{fresh?: boolean}} [options]
   * @returns {Promise<Array<any>>}
   */
  models({ fresh = false } = {}) {
    if (fresh) this.#models = null;
    this.#models ??= call("GET", "/models").then(
      ({ data }) => data,
      (error) => {
        this.#models = null;
        throw error;
      },
    );
    return this.#models;
  }

  /**
   * The model that serves a task, null when there is none.
   *
   * @param {"object-detection"|"text-classification"} task
   */
  async model(task) {
    return (await this.models()).find((model) => model.task === task) ?? null;
  }

  #become(user) {
    const changed = this.user?.id !== user?.id || this.user?.email !== user?.email;
    this.user = user;
    if (changed) {
      this.#models = null;
      this.dispatchEvent(new Event("change"));
    }
  }
}

export const session = new Session();
refusals.addEventListener("unauthorized", () => {
  if (session.user) session.expired();
});
