/** Characters that change a terminal's state or order, and that JSON does not escape: C1 controls, separators, bidi marks. */
const ACTIVE = /[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

/** JSON that is safe to print on a terminal. */
export function printableJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(ACTIVE, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** The text itself, or its JSON if it contains anything that a terminal would interpret. */
export function printable(text: string): string {
  return /^[\u0020-\u007e\u00a0-\u2027\u202f-\u2065\u206a-\uffff]*$/.test(text) ? text : printableJson(text);
}

/** Hides the password of a URL. */
export function withoutPassword(text: string): string {
  return text.replace(/(?<=:\/\/[^/?#:]*:)[^/?#]*(?=@)/, '***');
}
