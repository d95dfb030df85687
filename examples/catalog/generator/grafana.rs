//! A dashboard as Grafana reads it: panels that flow from left to right, with what all of them have in common.

use barograph::Descriptor;
use serde_json::{Value, json};

use crate::generator::query::Metric;

pub(crate) const GREEN: &str = "green";
pub(crate) const RED: &str = "red";
pub(crate) const ORANGE: &str = "orange";
pub(crate) const YELLOW: &str = "yellow";
pub(crate) const PURPLE: &str = "purple";
pub(crate) const BLUE: &str = "blue";
pub(crate) const GREY: &str = "#8e8e8e";

/// How a thing ended has one colour on all dashboards.
const ENDS: [(&str, &str); 10] = [
    ("success", GREEN),
    ("pass", GREEN),
    ("200", GREEN),
    ("error", RED),
    ("500", RED),
    ("503", ORANGE),
    ("fail", YELLOW),
    ("timeout", ORANGE),
    ("rate_limited", PURPLE),
    ("cancelled", GREY),
];

/// What goes wrong has colours too, none of them green.
const ERRORS: [(&str, &str); 14] = [
    ("io", BLUE),
    ("test", YELLOW),
    ("api", PURPLE),
    ("git", YELLOW),
    ("parse", PURPLE),
    ("internal", RED),
    ("connect", RED),
    ("timeout", ORANGE),
    ("status", YELLOW),
    ("decode", PURPLE),
    ("panic", RED),
    ("closed", PURPLE),
    ("late", ORANGE),
    ("other", GREY),
];

/// Grafana's grid.
const COLUMNS: u64 = 24;

/// A dashboard: rows of panels, the first one without a title.
pub(crate) struct Dashboard {
    pub(crate) uid: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// What says which jobs and instances there are to choose from: `up` does not know those that push.
    pub(crate) known_by: Metric,
    pub(crate) rows: Vec<(&'static str, Vec<Panel>)>,
}

impl Dashboard {
    /// The file below `deploy/grafana/dashboards`.
    pub(crate) fn file(&self) -> String {
        format!("{}.json", self.uid.trim_start_matches("barograph-"))
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "annotations": { "list": [] },
            "description": self.description,
            "editable": true,
            "fiscalYearStartMonth": 0,
            // One crosshair for all panels.
            "graphTooltip": 1,
            "links": [{
                "asDropdown": false, "icon": "dashboard", "includeVars": true, "keepTime": true,
                "tags": ["barograph"],
                "targetBlank": false, "title": "Barograph", "tooltip": "", "type": "dashboards", "url": "",
            }],
            "panels": self.panels(),
            "preload": false,
            "refresh": "10s",
            "schemaVersion": 41,
            "tags": ["barograph"],
            "templating": { "list": self.variables() },
            "time": { "from": "now-1h", "to": "now" },
            "timepicker": {},
            "timezone": "browser",
            "title": self.title,
            "uid": self.uid,
            "version": 1,
        })
    }

    fn panels(&self) -> Vec<Value> {
        let mut panels = Vec::new();
        let mut top = 0;
        for (title, row) in &self.rows {
            if !title.is_empty() {
                panels.push(json!({
                    "collapsed": false, "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": top }, "id": panels.len() + 1,
                    "panels": [], "title": title, "type": "row",
                }));
                top += 1;
            }
            let (mut left, mut height) = (0, 0);
            for panel in row {
                let [width, own_height] = panel.size;
                if left + width > COLUMNS {
                    assert_eq!(left, COLUMNS, "{}: the line before `{}` is full", self.uid, panel.title);
                    (left, top, height) = (0, top + height, 0);
                }
                panels.push(panel.json(panels.len() + 1, left, top));
                left += width;
                height = height.max(own_height);
            }
            assert_eq!(left, COLUMNS, "{}: the last line of row `{title}` is full", self.uid);
            top += height;
        }
        panels
    }

    fn variables(&self) -> Value {
        let known_by = self.known_by.name();
        json!([
            {
                "hide": 0, "includeAll": false, "label": "Data source", "multi": false,
                "name": "datasource", "options": [], "query": "prometheus", "refresh": 1, "regex": "",
                "skipUrlSync": false, "type": "datasource",
            },
            chosen("job", "Job", &format!("label_values({known_by}, job)")),
            chosen("instance", "Instance", &format!("label_values({known_by}{{job=~\"$job\"}}, instance)")),
        ])
    }
}

/// A variable with the values of a label, all of them by default.
fn chosen(name: &str, label: &str, query: &str) -> Value {
    json!({
        "allValue": ".*", "current": { "text": ["All"], "value": ["$__all"] }, "datasource": datasource(), "hide": 0,
        "includeAll": true, "label": label, "multi": true, "name": name, "options": [],
        "query": { "qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery" },
        "refresh": 2, "regex": "", "skipUrlSync": false, "sort": 1, "type": "query",
    })
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Stat,
    Gauge,
    BarGauge,
    TimeSeries,
    Heatmap,
    StateTimeline,
    Table,
}

struct Target {
    expr: String,
    legend: String,
    /// Over the time shown, as one number.
    instant: bool,
    /// Whether exemplars are shown too: each a dot that names the trace it was recorded in.
    exemplars: bool,
}

/// A panel.
pub(crate) struct Panel {
    kind: Kind,
    title: &'static str,
    description: String,
    size: [u64; 2],
    unit: String,
    range: [Option<f64>; 2],
    decimals: Option<u8>,
    thresholds: Vec<(f64, &'static str)>,
    base: &'static str,
    is_stacked: bool,
    targets: Vec<Target>,
    mappings: Vec<Value>,
    overrides: Vec<Value>,
    transformations: Vec<Value>,
    no_value: Option<&'static str>,
}

impl Panel {
    fn of(kind: Kind, size: [u64; 2], title: &'static str, metric: &Metric, advice: &str) -> Self {
        let description = format!("{} {advice}", metric.spec.description);
        Self::new(kind, size, title, description.trim_end().to_owned(), unit(&metric.spec))
    }

    fn new(kind: Kind, size: [u64; 2], title: &'static str, description: String, unit: &str) -> Self {
        Self {
            kind,
            title,
            description,
            size,
            unit: unit.to_owned(),
            range: [Some(0.0), None],
            decimals: None,
            thresholds: Vec::new(),
            base: BLUE,
            is_stacked: false,
            targets: Vec::new(),
            mappings: Vec::new(),
            overrides: Vec::new(),
            transformations: Vec::new(),
            no_value: None,
        }
    }

    /// A number, with its history behind it unless it is one over the time shown.
    pub(crate) fn stat(title: &'static str, metric: &Metric, advice: &str) -> Self {
        Self::of(Kind::Stat, [4, 4], title, metric, advice)
    }

    /// A number between two ends.
    pub(crate) fn gauge(title: &'static str, metric: &Metric, advice: &str) -> Self {
        Self::of(Kind::Gauge, [4, 4], title, metric, advice)
    }

    /// Several numbers to compare.
    pub(crate) fn bars(title: &'static str, metric: &Metric, advice: &str) -> Self {
        Self::of(Kind::BarGauge, [8, 8], title, metric, advice)
    }

    /// Values over time.
    pub(crate) fn lines(title: &'static str, metric: &Metric, advice: &str) -> Self {
        Self::of(Kind::TimeSeries, [8, 8], title, metric, advice)
    }

    /// States over time.
    pub(crate) fn states(title: &'static str, metric: &Metric, advice: &str) -> Self {
        Self::of(Kind::StateTimeline, [8, 8], title, metric, advice)
    }

    /// A table of what is the case now.
    pub(crate) fn table(title: &'static str, description: &str) -> Self {
        Self::new(Kind::Table, [12, 8], title, description.to_owned(), "short")
    }

    /// How the values of a histogram were distributed, over time.
    pub(crate) fn heatmap(title: &'static str, metric: &Metric, advice: &str) -> Self {
        let advice = format!("The darker a cell, the more values fell into that range. {advice}");
        Self::of(Kind::Heatmap, [12, 8], title, metric, &advice).query(metric.heat(), "{{le}}")
    }

    /// The median, and what 5 % and 1 % of the values exceed.
    pub(crate) fn quantiles(title: &'static str, metric: &Metric, advice: &str) -> Self {
        Self::of(Kind::TimeSeries, [12, 8], title, metric, &format!("Median, 95th and 99th percentile. {advice}"))
            .query(metric.quantile(0.5, &[]), "p50")
            .query(metric.quantile(0.95, &[]), "p95")
            .query(metric.quantile(0.99, &[]), "p99")
            .colour("p50", GREEN)
            .colour("p95", ORANGE)
            .colour("p99", RED)
            .no_value("nothing recorded lately")
    }

    pub(crate) fn size(mut self, width: u64, height: u64) -> Self {
        self.size = [width, height];
        self
    }

    /// Says more than the spec does.
    pub(crate) fn about(mut self, description: &str) -> Self {
        description.clone_into(&mut self.description);
        self
    }

    /// Grafana's name of a unit; without it, what the spec says.
    pub(crate) fn unit(mut self, unit: &str) -> Self {
        unit.clone_into(&mut self.unit);
        self
    }

    /// What it counts, a second.
    pub(crate) fn per_second(mut self, metric: &Metric) -> Self {
        self.unit = per_second(&metric.spec);
        self
    }

    /// A number between 0 and 1, shown in percent.
    pub(crate) fn share(self) -> Self {
        self.unit("percentunit").max(1.0).decimals(1)
    }

    pub(crate) fn max(mut self, max: f64) -> Self {
        self.range[1] = Some(max);
        self
    }

    pub(crate) fn decimals(mut self, decimals: u8) -> Self {
        self.decimals = Some(decimals);
        self
    }

    /// The colour below all thresholds, and from each on.
    pub(crate) fn thresholds(mut self, base: &'static str, steps: &[(f64, &'static str)]) -> Self {
        self.base = base;
        self.thresholds = steps.to_vec();
        self
    }

    /// Green at 0, and this colour from 1 on.
    pub(crate) fn none_is_good(self, otherwise: &'static str) -> Self {
        // An increase is extrapolated, so one event may count as a little less.
        self.thresholds(GREEN, &[(0.5, otherwise)]).decimals(0)
    }

    /// In words: 1 is good, 0 is not.
    pub(crate) fn yes_or_no(mut self, yes: &str, no: &str) -> Self {
        self.mappings.push(json!({ "type": "value", "options": {
            "0": { "color": RED, "index": 0, "text": no }, "1": { "color": GREEN, "index": 1, "text": yes },
        }}));
        self.unit("none").decimals(0).thresholds(RED, &[(1.0, GREEN)])
    }

    /// In words: 0 is good, 1 is not.
    pub(crate) fn no_or_yes(mut self, no: &str, yes: &str) -> Self {
        self.mappings.push(json!({ "type": "value", "options": {
            "0": { "color": GREEN, "index": 0, "text": no }, "1": { "color": RED, "index": 1, "text": yes },
        }}));
        self.unit("none").decimals(0).thresholds(GREEN, &[(1.0, RED)])
    }

    /// What a panel without data, or a quantile of nothing, says.
    pub(crate) fn no_value(mut self, text: &'static str) -> Self {
        self.no_value = Some(text);
        self
    }

    pub(crate) fn stacked(mut self) -> Self {
        self.is_stacked = true;
        self
    }

    /// What is shown. In the legend, `{{label}}` is a label's value.
    pub(crate) fn query(mut self, expr: impl Into<String>, legend: &str) -> Self {
        self.targets.push(Target { expr: expr.into(), legend: legend.to_owned(), instant: false, exemplars: false });
        self
    }

    /// The same, as one number over the time shown.
    pub(crate) fn now(mut self, expr: impl Into<String>, legend: &str) -> Self {
        self.targets.push(Target { expr: expr.into(), legend: legend.to_owned(), instant: true, exemplars: false });
        self
    }

    /// With the exemplars of what is shown. One query asks for them: all of a panel's ask for the same series.
    pub(crate) fn exemplars(mut self) -> Self {
        if let Some(target) = self.targets.last_mut() {
            target.exemplars = true;
        }
        self
    }

    /// Series of this name have this colour.
    pub(crate) fn colour(self, series: &str, colour: &str) -> Self {
        let value = json!({ "fixedColor": colour, "mode": "fixed" });
        self.overriding("byName", series, &[("color", value)])
    }

    fn overriding(mut self, matcher: &str, which: &str, properties: &[(&str, Value)]) -> Self {
        let properties: Vec<Value> = properties.iter().map(|(id, value)| json!({ "id": id, "value": value })).collect();
        self.overrides.push(json!({ "matcher": { "id": matcher, "options": which }, "properties": properties }));
        self
    }

    /// Gives what ended in a known way its colour: where a legend ends with it, as `deepseek error` does.
    pub(crate) fn coloured_by_end(mut self) -> Self {
        for (end, colour) in ENDS {
            self = self.coloured_last(end, colour);
        }
        self
    }

    /// The same for types of errors.
    pub(crate) fn coloured_by_error(mut self) -> Self {
        for (error, colour) in ERRORS {
            self = self.coloured_last(error, colour);
        }
        self
    }

    /// The same for one word.
    pub(crate) fn coloured_last(self, word: &str, colour: &str) -> Self {
        let value = json!({ "fixedColor": colour, "mode": "fixed" });
        self.overriding("byRegexp", &format!("/(^| ){word}$/"), &[("color", value)])
    }

    /// Columns of a table: the label, and what its head says. No others are shown.
    pub(crate) fn columns(mut self, columns: &[(&str, &str)]) -> Self {
        let names: serde_json::Map<String, Value> =
            columns.iter().map(|(label, head)| ((*label).to_owned(), json!(head))).collect();
        let order: serde_json::Map<String, Value> =
            columns.iter().enumerate().map(|(index, (label, _))| ((*label).to_owned(), json!(index))).collect();
        let shown: Vec<&str> = columns.iter().map(|(label, _)| *label).collect();
        self.transformations = vec![
            json!({ "id": "filterFieldsByName", "options": { "include": { "names": shown } } }),
            json!({ "id": "organize", "options": { "indexByName": order, "renameByName": names } }),
        ];
        self
    }

    /// Colours the texts of a column.
    pub(crate) fn coloured_column(self, head: &str, texts: &[(&str, &str)]) -> Self {
        let options: serde_json::Map<String, Value> = texts
            .iter()
            .enumerate()
            .map(|(index, (text, colour))| ((*text).to_owned(), json!({ "color": colour, "index": index })))
            .collect();
        let mappings = json!([{ "type": "value", "options": options }]);
        let cell = json!({ "type": "color-text" });
        self.overriding("byName", head, &[("custom.cellOptions", cell), ("mappings", mappings)])
    }

    fn json(&self, id: usize, left: u64, top: u64) -> Value {
        let [width, height] = self.size;
        assert!(self.targets.len() <= 26, "{}: refIds are letters", self.title);
        let targets: Vec<Value> =
            ('A'..='Z').zip(&self.targets).map(|(letter, target)| self.target(letter, target)).collect();
        json!({
            "datasource": datasource(),
            "description": self.description,
            "fieldConfig": { "defaults": self.defaults(), "overrides": self.overrides },
            "gridPos": { "h": height, "w": width, "x": left, "y": top },
            "id": id,
            "options": self.options(),
            "targets": targets,
            "title": self.title,
            "transformations": self.transformations,
            "type": match self.kind {
                Kind::Stat => "stat",
                Kind::Gauge => "gauge",
                Kind::BarGauge => "bargauge",
                Kind::TimeSeries => "timeseries",
                Kind::Heatmap => "heatmap",
                Kind::StateTimeline => "state-timeline",
                Kind::Table => "table",
            },
        })
    }

    fn target(&self, letter: char, target: &Target) -> Value {
        let instant = target.instant || self.kind == Kind::Table;
        let mut json = json!({
            "datasource": datasource(),
            "editorMode": "code",
            "expr": target.expr,
            "format": match self.kind {
                Kind::Heatmap => "heatmap",
                Kind::Table => "table",
                _ => "time_series",
            },
            "instant": instant,
            "legendFormat": target.legend,
            "range": !instant,
            "refId": letter.to_string(),
        });
        if target.exemplars {
            json["exemplar"] = true.into();
        }
        json
    }

    fn defaults(&self) -> Value {
        let mut steps = vec![json!({ "color": self.base, "value": null })];
        steps.extend(self.thresholds.iter().map(|(from, colour)| json!({ "color": colour, "value": from })));
        let mut mappings = self.mappings.clone();
        if let Some(text) = self.no_value {
            let result = json!({ "color": GREY, "index": 9, "text": text });
            mappings.push(json!({ "type": "special", "options": { "match": "null+nan", "result": result } }));
        }
        let is_palette = matches!(self.kind, Kind::TimeSeries | Kind::Heatmap | Kind::Table);
        let mut defaults = json!({
            "color": { "mode": if is_palette { "palette-classic" } else { "thresholds" } },
            "custom": self.custom(),
            "mappings": mappings,
            "thresholds": { "mode": "absolute", "steps": steps },
            "unit": self.unit,
        });
        let optional = [
            ("min", self.range[0].map(Value::from)),
            ("max", self.range[1].map(Value::from)),
            ("decimals", self.decimals.map(Value::from)),
            ("noValue", self.no_value.map(Value::from)),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                defaults[key] = value;
            }
        }
        defaults
    }

    fn custom(&self) -> Value {
        let hidden = json!({ "legend": false, "tooltip": false, "viz": false });
        match self.kind {
            Kind::TimeSeries => json!({
                "axisPlacement": "auto",
                // A flat 0 lies at the bottom, whatever the unit.
                "axisSoftMax": 0.01,
                "drawStyle": "line",
                "fillOpacity": if self.is_stacked { 40 } else { 10 },
                "hideFrom": hidden,
                "lineInterpolation": "linear",
                "lineWidth": if self.is_stacked { 1 } else { 2 },
                // A value between gaps is no line.
                "showPoints": "auto",
                "spanNulls": false,
                "stacking": { "group": "A", "mode": if self.is_stacked { "normal" } else { "none" } },
                "thresholdsStyle": { "mode": if self.thresholds.is_empty() { "off" } else { "dashed" } },
            }),
            Kind::Heatmap => json!({ "hideFrom": hidden, "scaleDistribution": { "type": "linear" } }),
            Kind::StateTimeline => json!({ "fillOpacity": 70, "hideFrom": hidden, "lineWidth": 0 }),
            Kind::Table => json!({ "align": "auto", "cellOptions": { "type": "auto" }, "inspect": false }),
            Kind::Stat | Kind::Gauge | Kind::BarGauge => json!({}),
        }
    }

    fn options(&self) -> Value {
        let reduced = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
        let is_instant = self.targets.iter().all(|target| target.instant);
        let is_word = !self.mappings.is_empty();
        match self.kind {
            Kind::Stat => json!({
                "colorMode": if is_word { "background" } else { "value" },
                "graphMode": if is_instant || is_word { "none" } else { "area" },
                "justifyMode": "auto",
                "orientation": "auto",
                "percentChangeColorMode": "standard",
                "reduceOptions": reduced,
                "showPercentChange": false,
                "textMode": if self.targets.len() > 1 { "value_and_name" } else { "value" },
                "wideLayout": true,
            }),
            Kind::Gauge => json!({
                "barShape": "flat",
                "barWidthFactor": 0.5,
                "effects": { "barGlow": false, "centerGlow": false, "gradient": false },
                "minVizHeight": 75,
                "minVizWidth": 75,
                "orientation": "auto",
                "reduceOptions": reduced,
                "segmentCount": 1,
                "segmentSpacing": 0.3,
                "shape": "gauge",
                "showThresholdLabels": false,
                "showThresholdMarkers": true,
                "sizing": "auto",
                "sparkline": false,
                "textMode": "value",
            }),
            Kind::BarGauge => json!({
                "displayMode": "basic",
                "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false },
                "maxVizHeight": 300, "minVizHeight": 16, "minVizWidth": 8, "namePlacement": "auto",
                "orientation": "horizontal", "reduceOptions": reduced, "showUnfilled": true, "sizing": "auto",
                "valueMode": "color",
            }),
            Kind::TimeSeries => json!({
                "legend": {
                    "calcs": ["mean", "max"],
                    // Where there may be many, a line each, largest first.
                    "displayMode": if self.is_stacked || self.targets.len() > 3 { "table" } else { "list" },
                    "placement": if self.is_stacked && self.size[0] > 8 { "right" } else { "bottom" },
                    "showLegend": true,
                    "sortBy": "Max",
                    "sortDesc": true,
                },
                "tooltip": { "hideZeros": false, "mode": "multi", "sort": "desc" },
            }),
            Kind::Heatmap => json!({
                "calculate": false,
                "cellGap": 1,
                "cellValues": { "unit": "short" },
                "color": {
                    "exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": false,
                    "scale": "exponential",                    "scheme": "Oranges", "steps": 64,
                },
                "exemplars": { "color": "rgba(255,0,255,0.7)" },
                "filterValues": { "le": 1e-9 },
                "legend": { "show": true },
                "rowsFrame": { "layout": "auto" },
                "showValue": "never",
                "tooltip": { "mode": "single", "showColorScale": true, "yHistogram": true },
                "yAxis": { "axisPlacement": "left", "reverse": false, "unit": self.unit },
            }),
            Kind::StateTimeline => json!({
                "alignValue": "left",
                "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false },
                "mergeValues": true,
                "rowHeight": 0.8,
                "showValue": "auto",
                "tooltip": { "hideZeros": false, "mode": "single", "sort": "none" },
            }),
            Kind::Table => json!({ "cellHeight": "sm", "frameIndex": 0, "showHeader": true }),
        }
    }
}

/// Grafana's unit of a metric's values.
fn unit(spec: &Descriptor) -> &'static str {
    match spec.unit {
        "s" => "s",
        "By" => "bytes",
        "%" => "percent",
        "1" => "percentunit",
        _ => "short",
    }
}

/// Grafana's unit of how fast a metric grows: `{run}` becomes runs/s.
fn per_second(spec: &Descriptor) -> String {
    match spec.unit {
        "By" => "Bps".to_owned(),
        unit => {
            let word = unit.trim_matches(['{', '}']).replace('_', " ");
            let plural = if word.ends_with('s') { "" } else { "s" };
            format!("suffix:{word}{plural}/s")
        }
    }
}
