/** What the build made, as text. */
declare module '*.txt' {
  const text: string;
  export default text;
}
