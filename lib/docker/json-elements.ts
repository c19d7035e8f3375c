/**
 * Splits a JSON array into its elements while it arrives, so that an element's size does not matter to the others: of
 * one over the limit only the start is kept. Whether an element is valid JSON is left to its parser.
 */

/** Enough for the id, with which the engine begins each element of a list. */
const KEPT_OF_TOO_LONG = 128;

const [SPACE, QUOTE, BACKSLASH, COMMA] = [0x20, 0x22, 0x5c, 0x2c];
const OPENING = new Set([0x7b, 0x5b]);
const CLOSING = new Set([0x7d, 0x5d]);
const [ARRAY_START, ARRAY_END] = [0x5b, 0x5d];

export interface JsonElement {
  readonly text: string;
  readonly isTooLong: boolean;
}

export class JsonElements {
  readonly #maxLength: number;
  #parts: Buffer[] = [];
  #length = 0;
  #depth = 0;
  #isInString = false;
  #isEscaped = false;

  constructor(maxLength: number) {
    this.#maxLength = maxLength;
  }

  /** Whether the array has begun and ended. */
  isComplete = false;

  /** @throws SyntaxError when the text is no array */
  push(chunk: Buffer): JsonElement[] {
    const elements: JsonElement[] = [];
    let start = 0;
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at] ?? 0;
      if (this.#isInString) {
        if (this.#isEscaped) this.#isEscaped = false;
        else if (byte === BACKSLASH) this.#isEscaped = true;
        else if (byte === QUOTE) this.#isInString = false;
      } else if (this.#depth === 0) {
        if (byte === ARRAY_START && !this.isComplete) this.#depth = 1;
        else if (byte > SPACE) throw new SyntaxError('not a JSON array');
        start = at + 1;
      } else if (byte === QUOTE) {
        this.#isInString = true;
      } else if (OPENING.has(byte)) {
        this.#depth += 1;
      } else if (this.#depth === 1 && (byte === COMMA || byte === ARRAY_END)) {
        this.#keep(chunk.subarray(start, at));
        const element = this.#take();
        if (element.text.trim() !== '') elements.push(element);
        start = at + 1;
        if (byte === ARRAY_END) {
          this.#depth = 0;
          this.isComplete = true;
        }
      } else if (CLOSING.has(byte)) {
        this.#depth -= 1;
      }
    }
    if (this.#depth > 0) this.#keep(chunk.subarray(start));
    return elements;
  }

  #keep(part: Buffer): void {
    const room = (this.#length + part.length > this.#maxLength ? KEPT_OF_TOO_LONG : this.#maxLength) - this.#length;
    this.#length += part.length;
    if (this.#length <= this.#maxLength) this.#parts.push(part);
    else if (room > 0) this.#parts.push(Buffer.from(part.subarray(0, room)));
    else this.#parts = [Buffer.from(Buffer.concat(this.#parts).subarray(0, KEPT_OF_TOO_LONG))];
  }

  #take(): JsonElement {
    const element = { text: Buffer.concat(this.#parts).toString('utf8'), isTooLong: this.#length > this.#maxLength };
    this.#parts = [];
    this.#length = 0;
    return element;
  }
}
