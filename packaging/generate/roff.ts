/** Characters that troff would set as others than a terminal's, or take for requests of its own (groff_char(7)). */
const SPECIAL: Readonly<Record<string, string>> = {
  '\\': '\\e', '-': '\\-', "'": '\\(aq', '`': '\\(ga', '^': '\\(ha', '~': '\\(ti', '"': '\\(dq',
};

/** A text as it should be read, so that no character of it is markup. */
export function plain(text: string): string {
  const escaped = text.replace(/[\\\-'`^~"]/g, (character) => SPECIAL[character] ?? character);
  return escaped.replace(/^\./gm, '\\&.');
}

export const bold = (text: string): string => `\\fB${plain(text)}\\fR`;
export const italic = (text: string): string => `\\fI${plain(text)}\\fR`;

/** A paragraph with a tag that hangs out of it. */
export function tagged(tag: string, text: string): string {
  return `.TP\n${tag}\n${text}`;
}
