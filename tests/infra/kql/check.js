// Reads {"tables": {name: columns}, "queries": [...]} on standard input. Writes, for each query, what is wrong with it
// and the columns of its result.
const { readFileSync } = require("node:fs");
const { runInThisContext } = require("node:vm");

for (const name of ["bridge.min.js", "Kusto.Language.Bridge.min.js"]) {
  runInThisContext(readFileSync(require.resolve(`@kusto/language-service-next/${name}`), "utf8"));
}
const { GlobalState, KustoCode, Symbols } = Kusto.Language;
const { tables, queries } = JSON.parse(readFileSync(0, "utf8"));
const symbols = Object.entries(tables).map(([name, columns]) => new Symbols.TableSymbol.$ctor7(name, `(${columns})`));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor("logs", symbols));

function list(found, read) {
  return Array.from({ length: found.Count }, (_, i) => read(found.getItem(i)));
}

const results = queries.map((query) => {
  const code = KustoCode.ParseAndAnalyze(query, globals);
  const columns = code.ResultType && code.ResultType.Columns;
  return {
    problems: list(code.GetDiagnostics(), (one) => one.Message),
    columns: columns ? list(columns, (one) => one.Name) : [],
  };
});
process.stdout.write(JSON.stringify(results));
