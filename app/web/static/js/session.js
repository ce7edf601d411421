/** Who is signed in, and what the server offers; one object that the views read and listen to. */
import { ApiError, call, forgetCsrf } from "./api.js";

/** @typedef {{id: string, email: string, created_at: string, is_admin?: boolean}} User */

class Session extends EventTarget {
  /** @type {User|null} */
  user = null;
  /** Whether the server predicts for callers who have not signed in. */
  anonymous = false;
  /** @type {Promise<Array<any>>|null} */
  #models = null;

  /** Ask the server who we are. A server that cannot be reached counts as signed out; the views then say why. */
  async refresh() {
    let user = null;
    try {
      user = (await call("GET", "/me")).data;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // Whoever may list the models without an account may also use them.
      this.#models = null;
      this.anonymous =
        error.status === 401 &&
        (await this.models().then(
          () => true,
          () => false,
        ));
    }
    this.#become(user);
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
      if (user) this.#models = null;
      this.dispatchEvent(new Event("change"));
    }
  }
}

export const session = new Session();
