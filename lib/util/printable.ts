/** What a terminal acts on, or shows in another order, beyond what JSON escapes: C1 controls, separators, bidi marks. */
const ACTIVE = /[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

/** JSON of a value that is safe to show on a terminal, and still JSON. */
export function printableJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(ACTIVE, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** Text as it is, or quoted if a terminal would do anything but show it. */
export function printable(text: string): string {
  return /^[\u0020-\u007e\u00a0-\u2027\u202f-\u2065\u206a-\uffff]*$/.test(text) ? text : printableJson(text);
}
