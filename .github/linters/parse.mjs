// Reads workflows and actions with GitHub's own parser: node parse.mjs FILE…
// Prints every problem as FILE:LINE:COLUMN and ends with 1 when there is one.
import { readFileSync } from "node:fs";
import { register } from "node:module";
import { basename, relative } from "node:path";

// The parser is made for bundlers: it imports its schema without saying that it is JSON.
const hook = `export const load = (url, context, next) =>
  next(url, url.endsWith(".json") ? { ...context, importAttributes: { type: "json" } } : context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);

const parser = "@actions/workflow-parser";
const { NoOperationTraceWriter, convertWorkflowTemplate, parseWorkflow } = await import(parser);
const { parseAction } = await import(`${parser}/actions/action-parser`);

const trace = new NoOperationTraceWriter();
let problems = 0;

for (const path of process.argv.slice(2)) {
  const file = { name: relative(process.cwd(), path), content: readFileSync(path, "utf8") };
  const isAction = basename(path) === "action.yml";
  const result = (isAction ? parseAction : parseWorkflow)(file, trace);
  if (result.value && !isAction) {
    await convertWorkflowTemplate(result.context, result.value);
  }
  for (const error of result.context.errors.getErrors()) {
    problems += 1;
    const start = error.range?.start;
    const place = start ? `:${start.line}:${start.column}` : "";
    console.error(`${file.name}${place}: error: ${error.message}`);
  }
}
process.exitCode = problems ? 1 : 0;
