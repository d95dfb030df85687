// Makes JSON schemas of Grafana's own types: of a dashboard, and of what each kind of panel has for options.
//
//     node generate.mjs NODE_MODULES > schemas.json
//
// A property that Grafana does not know is an error in them. The names are those that a dashboard has for its panels,
// without hyphens, as Grafana's folders have them.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const modules = resolve(process.argv[2]);
const { createGenerator } = createRequire(join(modules, "here.js"))("ts-json-schema-generator");
const types = join(modules, "@grafana/schema/dist/types/raw");

// Those that draw metrics; the others are for logs, traces, maps and news.
const panels = [
    "barchart", "bargauge", "gauge", "heatmap", "histogram", "piechart", "stat", "statetimeline", "statushistory", "table",
    "text", "timeseries", "trend",
];

// One program for each type: several panels have types of the same name.
function schema(path, type) {
    const made = createGenerator({ path, type, additionalProperties: false, jsDoc: "none", skipTypeCheck: true });
    return made.createSchema(type);
}

const schemas = { dashboard: schema(join(types, "dashboard/x/types.gen.d.ts"), "Dashboard"), options: {}, custom: {} };
for (const panel of panels) {
    const path = join(types, "composable", panel, "panelcfg/x/types.gen.d.ts");
    schemas.options[panel] = schema(path, "Options");
    // A panel that declares none of its own has nothing there.
    const configures = /^export (interface|type) FieldConfig\b/m.test(readFileSync(path, "utf8"));
    schemas.custom[panel] = configures ? schema(path, "FieldConfig") : { type: "object", additionalProperties: false };
}
process.stdout.write(JSON.stringify(schemas));
