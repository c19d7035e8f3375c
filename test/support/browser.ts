import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

type Json = Record<string, unknown>;

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Json;
  readonly result?: Json;
  readonly error?: { readonly message: string };
  readonly sessionId?: string;
}

export interface View {
  readonly width: number;
  readonly height?: number;
  readonly scheme?: 'light' | 'dark';
  readonly javascript?: boolean;
}

/** The timeout of one command. Without it a hang would have no message. */
const TIMEOUT_MS = 60_000;

/**
 * Headless Chromium, controlled over a pipe with the DevTools protocol. It has a temporary profile, and makes no network
 * request except those of the page.
 */
export class Browser {
  readonly #child: ChildProcess;
  readonly #profile: string;
  readonly #waiting = new Map<number, (message: Message) => void>();
  readonly #listeners = new Set<(message: Message) => void>();
  #ids = 0;

  private constructor(program: string) {
    this.#profile = mkdtempSync(join(tmpdir(), 'browser-'));
    // Root cannot use the sandbox, and the page is our own. The other flags disable background requests.
    const flags = [
      '--headless=new', '--no-sandbox', '--remote-debugging-pipe', '--disable-gpu', '--hide-scrollbars=false',
      '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run',
      '--no-default-browser-check', '--disable-default-apps', '--disable-dev-shm-usage',
      `--user-data-dir=${this.#profile}`, '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ];
    this.#child = spawn(program, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    let rest = '';
    (this.#child.stdio[4] as Readable).setEncoding('utf8').on('data', (text: string) => {
      const messages = (rest + text).split('\0');
      rest = messages.pop() ?? '';
      for (const message of messages) this.#take(JSON.parse(message) as Message);
    });
  }

  static start(program = 'chromium'): Browser {
    return new Browser(program);
  }

  /** A new tab. */
  async open(): Promise<Tab> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    return Tab.attach(this, String(sessionId));
  }

  send(method: string, params: Json = {}, sessionId?: string): Promise<Json> {
    const id = (this.#ids += 1);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${method}`)), TIMEOUT_MS);
      this.#waiting.set(id, ({ result = {}, error }) => {
        clearTimeout(timer);
        if (error) reject(new Error(`${method}: ${error.message}`));
        else resolve(result);
      });
      const message = { id, method, params, ...(sessionId === undefined ? {} : { sessionId }) };
      (this.#child.stdio[3] as Writable).write(`${JSON.stringify(message)}\0`);
    });
  }

  /** @returns a function that removes the listener */
  listen(listener: (message: Message) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    await this.send('Browser.close').catch(() => this.#child.kill('SIGKILL'));
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #take(message: Message): void {
    if (message.id === undefined) {
      for (const listener of this.#listeners) listener(message);
      return;
    }
    this.#waiting.get(message.id)?.(message);
    this.#waiting.delete(message.id);
  }
}

export class Tab {
  /** What the browser reported: console errors and warnings, exceptions, violations of the content security policy. */
  readonly complaints: string[] = [];
  readonly #browser: Browser;
  readonly #session: string;

  private constructor(browser: Browser, session: string) {
    this.#browser = browser;
    this.#session = session;
    browser.listen(({ sessionId, method, params }) => {
      if (sessionId !== session || method === undefined) return;
      const isComplaint =
        method === 'Runtime.exceptionThrown' ||
        (method === 'Log.entryAdded' && /error|warning/.test(JSON.stringify((params?.['entry'] as Json)?.['level']))) ||
        (method === 'Runtime.consoleAPICalled' && /error|warning|assert/.test(String(params?.['type']))) ||
        method === 'Audits.issueAdded';
      if (isComplaint) this.complaints.push(`${method} ${JSON.stringify(params)}`);
    });
  }

  static async attach(browser: Browser, session: string): Promise<Tab> {
    const tab = new Tab(browser, session);
    for (const domain of ['Page', 'Runtime', 'Log', 'Audits']) await tab.send(`${domain}.enable`);
    return tab;
  }

  send(method: string, params: Json = {}): Promise<Json> {
    return this.#browser.send(method, params, this.#session);
  }

  async show(url: string, { width, height = 900, scheme = 'light', javascript = true }: View): Promise<void> {
    await this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 500 });
    const features = [{ name: 'prefers-color-scheme', value: scheme }];
    await this.send('Emulation.setEmulatedMedia', { features });
    await this.send('Emulation.setScriptExecutionDisabled', { value: !javascript });
    const loaded = this.#next('Page.loadEventFired');
    await this.send('Page.navigate', { url });
    await loaded;
  }

  /** The value of an expression, awaited if it is a promise. It must be JSON. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression, awaitPromise: true, returnByValue: true,
    });
    if (exceptionDetails) throw new Error(`${expression.slice(0, 80)}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value: T }).value;
  }

  /** PNG of the whole page, however long. */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: true });
    return Buffer.from(String(data), 'base64');
  }

  async press(key: string): Promise<void> {
    for (const type of ['keyDown', 'keyUp']) {
      const text = key === 'Enter' ? { text: '\r' } : {};
      const code = { Tab: 9, Enter: 13 }[key] ?? 0;
      await this.send('Input.dispatchKeyEvent', { type, key, code: key, windowsVirtualKeyCode: code, ...text });
    }
  }

  #next(method: string): Promise<void> {
    return new Promise((resolve) => {
      const stop = this.#browser.listen((message) => {
        if (message.sessionId !== this.#session || message.method !== method) return;
        stop();
        resolve();
      });
    });
  }
}
