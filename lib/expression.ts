import { createContext, Script } from 'node:vm';

/** About as long as a path may be. */
const LONGEST_TEXT = 1024;
/** A thousand times what an expression takes that does not try the same characters again and again. */
const PATIENCE_MS = 100;
/** In the middle of a text they make an expression fail that has matched so far, whatever it is about. */
const MISFITS = ['!', '/'];

/**
 * An operator's regular expression, for texts that a container chooses. Some repetitions within repetitions, such as
 * `(a+)+$`, take longer than the world will last on a text that nearly matches, and nobody is served meanwhile; so each
 * expression is tried at the start on texts that repeat what it is about.
 *
 * @throws Error, saying why, when it is no expression or takes too long
 */
export function parseExpression(source: string, flags = ''): RegExp {
  const expression = new RegExp(source, flags);
  const context = createContext({ expression, text: '' });
  const trial = new Script('expression.test(text)');
  for (const text of adversaries(source)) {
    context['text'] = text;
    try {
      trial.runInContext(context, { timeout: PATIENCE_MS });
    } catch {
      throw new Error(`it takes for ever to say no to ${text.slice(0, 10)}…: a repetition within a repetition?`);
    }
  }
  return expression;
}

/** Texts of what stands in the expression, one after the other and in pairs, and of what classes stand for. */
function adversaries(source: string): string[] {
  const characters = new Set([...source.replace(/\\./g, '').match(/[\w/-]/g) ?? [], 'a', '0', '/']);
  const words = new Set([...characters, ...source.match(/[\w/-]{2,}/g) ?? [], '/a', 'a-']);
  const [, beginning = ''] = /^\^?([\w/-]*)/.exec(source) ?? [];
  const beginnings = new Set(['', '/', beginning]);
  return [...words].flatMap((word) => {
    const repeated = word.repeat(Math.ceil(LONGEST_TEXT / word.length));
    return [...beginnings].flatMap((first) => MISFITS.map((last) => (first + repeated).slice(0, LONGEST_TEXT) + last));
  });
}
