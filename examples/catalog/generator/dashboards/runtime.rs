//! What a program stands on: its tokio runtimes and tasks, its process, its container and its machine.

use barograph::Descriptor;
use barograph_instrumentation_system::semconv as system;
use barograph_instrumentation_tokio::semconv;
use barograph_instrumentation_tokio::semconv::{POLL_DURATION_LIMIT, RUNTIME_NAME, TASK_KIND, WORKER_ID};

use crate::generator::grafana::{Dashboard, GREEN, GREY, ORANGE, Panel, RED, YELLOW};
use crate::generator::query::{Metric, sum};

/// What a series is said to be of.
const RUNTIME: &str = "{{tokio_runtime_name}}";

pub(crate) fn dashboard() -> Dashboard {
    let workers = Metric::new(semconv::WORKER_COUNT.descriptor());
    Dashboard {
        uid: "barograph-runtime",
        title: "Runtime",
        description: "What a program stands on: its tokio runtimes and tasks, its process, its container and its \
            machine, by the semantic conventions.",
        rows: vec![
            ("", all_right()),
            ("Tokio: workers", tokio(&workers)),
            ("Tokio: tasks that are instrumented", tasks()),
            ("Tokio: what it tells where the program is built with tokio_unstable", unstable()),
            ("Process", process()),
            ("Container", container()),
            ("Machine: CPU and memory", machine()),
            ("Machine: disks and network", disks_and_network()),
        ],
        known_by: workers,
    }
}

fn all_right() -> Vec<Panel> {
    let busy = Metric::new(semconv::WORKER_BUSY_TIME.descriptor());
    let queue = Metric::new(semconv::GLOBAL_QUEUE_LENGTH.descriptor());
    let tasks = Metric::new(semconv::TASK_COUNT.descriptor());
    let poll = Metric::new(semconv::POLL_DURATION.descriptor());
    let memory = Metric::new(system::PROCESS_MEMORY_USAGE.descriptor());
    let open = Metric::new(system::PROCESS_FILE_DESCRIPTOR_COUNT.descriptor());
    let limit = Metric::new(system::PROCESS_FILE_DESCRIPTOR_LIMIT.descriptor());
    vec![
        Panel::gauge(
            "Workers busy",
            &busy,
            "Of the runtime that has most to do. Red for long: more workers, or less work.",
        )
        .share()
        .decimals(0)
        .thresholds(GREEN, &[(0.7, YELLOW), (0.9, RED)])
        .query(format!("max({})", busy_share(&busy)), ""),
        Panel::stat(
            "Tasks waiting",
            &queue,
            "Of all runtimes. Never 0: workers cannot keep up, or one of them is blocked.",
        )
        .decimals(0)
        .thresholds(GREEN, &[(10.0, YELLOW), (100.0, RED)])
        .query(sum("", &queue.series()), ""),
        Panel::stat(
            "Tasks",
            &tasks,
            "Of all runtimes. Growing without end: tasks that nobody waits for and that never end.",
        )
        .decimals(0)
        .query(sum("", &tasks.series()), ""),
        Panel::stat(
            "Poll, p99",
            &poll,
            "One poll in a hundred takes longer. Above some milliseconds it holds up others.",
        )
        .no_value("none lately")
        .thresholds(GREEN, &[(0.01, YELLOW), (0.1, RED)])
        .query(poll.quantile(0.99, &[]), ""),
        Panel::stat("Memory", &memory, "Of all processes that are chosen.")
            .decimals(0)
            .query(sum("", &memory.series()), ""),
        Panel::gauge("Descriptors", &open, "")
            .about("File descriptors in use, of those that the process may have; of the process that has least left.")
            .share()
            .decimals(0)
            .thresholds(GREEN, &[(0.7, YELLOW), (0.9, RED)])
            .query(format!("max({} / {})", open.series(), limit.series()), ""),
    ]
}

/// The share of the time that the workers of a runtime are busy.
fn busy_share(busy: &Metric) -> String {
    format!("avg by (job, instance, tokio_runtime_name) ({})", busy.rate())
}

fn tokio(workers: &Metric) -> Vec<Panel> {
    let busy = Metric::new(semconv::WORKER_BUSY_TIME.descriptor());
    let parks = Metric::new(semconv::WORKER_PARKS.descriptor());
    let tasks = Metric::new(semconv::TASK_COUNT.descriptor());
    let queue = Metric::new(semconv::GLOBAL_QUEUE_LENGTH.descriptor());
    vec![
        Panel::lines("How busy are the workers?", &busy, "")
            .about(
                "Share of the time that a runtime's workers were busy. Near 100 %: everything waits. A poll counts when \
                 it has ended, so a worker that hangs in one looks idle, and the queue grows.",
            )
            .share()
            .thresholds(GREEN, &[(0.7, ORANGE), (0.9, RED)])
            .query(busy_share(&busy), &format!("{RUNTIME} {{{{instance}}}}")),
        Panel::lines("And each of them?", &busy, "")
            .about("Share of the time that each worker was busy. One near 100 % alone has a task that does not yield.")
            .share()
            .query(busy.rate_by(&["instance", RUNTIME_NAME, WORKER_ID]), &format!("{RUNTIME} {{{{tokio_worker_id}}}}")),
        Panel::lines(
            "How many tasks wait for a worker?",
            &queue,
            "Those of the queue that all workers share. Some for a moment are no harm.",
        )
        .query(by_runtime(&queue), RUNTIME),
        Panel::lines(
            "How many tasks are there?",
            &tasks,
            "A step is a burst of connections. A slope that goes on is a leak: the row below says of which kind.",
        )
        .query(by_runtime(&tasks), RUNTIME),
        Panel::lines("How many workers are there?", workers, "")
            .about("Worker threads of each runtime: what it was built with, often the CPUs of the machine.")
            .query(by_runtime(workers), RUNTIME),
        Panel::lines("How often do workers go to sleep?", &parks, "Seldom under load: they always find something to do.")
            .per_second(&parks)
            .query(parks.rate_by(&[RUNTIME_NAME]), RUNTIME),
    ]
}

fn by_runtime(metric: &Metric) -> String {
    sum("tokio_runtime_name", &metric.series())
}

fn tasks() -> Vec<Panel> {
    let count = Metric::new(semconv::INSTRUMENTED_COUNT.descriptor());
    let ended = Metric::new(semconv::INSTRUMENTED_ENDED.descriptor());
    let poll = Metric::new(semconv::POLL_DURATION.descriptor());
    let schedule = Metric::new(semconv::SCHEDULE_DURATION.descriptor());
    let kind = "{{tokio_task_kind}}";
    vec![
        Panel::lines("How many are there of each kind?", &count, "")
            .size(12, 8)
            .query(sum("tokio_task_kind", &count.series()), kind),
        Panel::lines(
            "How do they end?",
            &ended,
            "`panicked`: the log has the message, whoever awaits the task the error.",
        )
        .per_second(&ended)
        .stacked()
        .size(12, 8)
        .coloured_last("completed", GREEN)
        .coloured_last("panicked", RED)
        .coloured_last("cancelled", GREY)
        .query(ended.rate_by(&[TASK_KIND, "tokio.task.outcome"]), "{{tokio_task_kind}} {{tokio_task_outcome}}"),
        Panel::quantiles(
            "How long does a poll take?",
            &poll,
            "What computes or blocks for longer than some milliseconds belongs on `spawn_blocking`.",
        ),
        Panel::heatmap("How were polls distributed?", &poll, ""),
        Panel::lines("Which kind holds up a worker?", &poll, "99th percentile.")
            .size(12, 8)
            .no_value("nothing recorded lately")
            .query(poll.quantile(0.99, &[TASK_KIND]), kind),
        Panel::lines(
            "Which kind waits for one?",
            &schedule,
            "99th percentile. All of them: workers are busy, or blocked.",
        )
        .size(12, 8)
        .no_value("nothing recorded lately")
        .query(schedule.quantile(0.99, &[TASK_KIND]), kind),
    ]
}

fn unstable() -> Vec<Panel> {
    let of = |spec: Descriptor| Metric::new(spec);
    let local = of(semconv::LOCAL_QUEUE_LENGTH.descriptor());
    let waiting = of(semconv::BLOCKING_QUEUE_LENGTH.descriptor());
    let threads = of(semconv::BLOCKING_THREAD_COUNT.descriptor());
    let spawned = of(semconv::TASKS_SPAWNED.descriptor());
    let yields = of(semconv::FORCED_YIELDS.descriptor());
    let polls = of(semconv::WORKER_POLLS.descriptor());
    let within = of(semconv::WORKER_POLLS_WITHIN.descriptor());
    let steals = of(semconv::WORKER_STEALS.descriptor());
    let overflows = of(semconv::WORKER_OVERFLOWS.descriptor());
    let watched = of(semconv::IO_COUNT.descriptor());
    let events = of(semconv::IO_EVENTS.descriptor());
    let named = |what: &str| format!("{what} {RUNTIME}");
    let shown = |title, metric: &Metric, advice| Panel::lines(title, metric, advice).no_value("not built so");
    vec![
        shown("Do the blocking threads suffice?", &waiting, "")
            .about(
                "Threads of the blocking pool, by what they do, and functions that wait for one. Some that wait: the \
                 limit of the pool is reached.",
            )
            .query(sum("tokio_runtime_name, tokio_thread_state", &threads.series()), &named("{{tokio_thread_state}}"))
            .query(by_runtime(&waiting), &named("waiting")),
        shown("How long are the workers' own queues?", &local, "One that is long alone: its worker is held up.")
            .query(sum("tokio_runtime_name, tokio_worker_id", &local.series()), &named("{{tokio_worker_id}}")),
        shown("How do workers share their work?", &steals, "")
            .about("Tasks that workers took from each other, a second, and times that a queue was full.")
            .unit("ops")
            .query(steals.rate_by(&[RUNTIME_NAME]), &named("stolen"))
            .query(overflows.rate_by(&[RUNTIME_NAME]), &named("overflows")),
        shown("How many tasks are spawned?", &spawned, "")
            .about("Tasks that were spawned, a second, and times that one was made to yield because its budget was used up.")
            .unit("ops")
            .query(spawned.rate_by(&[RUNTIME_NAME]), &named("spawned"))
            .query(yields.rate_by(&[RUNTIME_NAME]), &named("made to yield")),
        shown("How many polls, and how long are they?", &polls, "")
            .about(
                "Polls of tasks, a second: all of them, and those within each limit, in seconds, where the runtime was \
                 built with its histogram of poll times.",
            )
            .unit("ops")
            .query(polls.rate_by(&[RUNTIME_NAME]), &named("all"))
            .query(within.rate_by(&[RUNTIME_NAME, POLL_DURATION_LIMIT]), &named("≤ {{tokio_poll_duration_limit}}")),
        shown("What does the I/O driver do?", &events, "")
            .about("File descriptors that it watches, and how often one of them became ready, a second.")
            .unit("short")
            .query(by_runtime(&watched), &named("watched"))
            .query(events.rate_by(&[RUNTIME_NAME]), &named("events/s")),
    ]
}

fn process() -> Vec<Panel> {
    let of = |spec: Descriptor| Metric::new(spec);
    let time = of(system::PROCESS_CPU_TIME.descriptor());
    let utilization = of(system::PROCESS_CPU_UTILIZATION.descriptor());
    let memory = of(system::PROCESS_MEMORY_USAGE.descriptor());
    let memory_virtual = of(system::PROCESS_MEMORY_VIRTUAL.descriptor());
    let memory_limit = of(system::PROCESS_MEMORY_VIRTUAL_LIMIT.descriptor());
    let io = of(system::PROCESS_DISK_IO.descriptor());
    let threads = of(system::PROCESS_THREAD_COUNT.descriptor());
    let open = of(system::PROCESS_FILE_DESCRIPTOR_COUNT.descriptor());
    let limit = of(system::PROCESS_FILE_DESCRIPTOR_LIMIT.descriptor());
    let switches = of(system::PROCESS_CONTEXT_SWITCHES.descriptor());
    let faults = of(system::PROCESS_PAGING_FAULTS.descriptor());
    let uptime = of(system::PROCESS_UPTIME.descriptor());
    let started = of(system::PROCESS_START_TIME.descriptor());
    // Its own words come first: the legend is cut off where there is no room.
    let each = |title, metric: &Metric, advice, what: &str| {
        Panel::lines(title, metric, advice).query(metric.series(), &format!("{what}{{{{instance}}}}"))
    };
    vec![
        Panel::lines("How much CPU does the process use?", &time, "In CPUs: 1 is one of them all the time.")
            .unit("suffix:CPUs")
            .stacked()
            .query(time.rate_by(&["cpu.mode"]), "{{cpu_mode}}"),
        Panel::lines("Which share of what it may use?", &utilization, "")
            .share()
            .thresholds(GREEN, &[(0.7, ORANGE), (0.9, RED)])
            .query(sum("instance", &utilization.series()), "{{instance}}"),
        each(
            "How much memory?",
            &memory,
            "Growing without end: a leak, or too many series; see the dashboard of Barograph.",
            "",
        ),
        Panel::lines("How much address space?", &memory_virtual, "")
            .about("Virtual memory of the process, and how much it may have: 16 EiB where there is no limit.")
            .query(memory_virtual.series(), "in use {{instance}}")
            .query(memory_limit.series(), "limit {{instance}}"),
        Panel::lines("What do disks do for it?", &io, "What comes from the page cache does not count.")
            .per_second(&io)
            .query(io.rate_by(&["disk.io.direction"]), "{{disk_io_direction}}"),
        Panel::lines("How many files and connections are open?", &open, "")
            .about("File descriptors in use, and how many the process may have: at the limit it can accept nothing.")
            .query(open.series(), "open {{instance}}")
            .query(limit.series(), "limit {{instance}}"),
        each("How many threads?", &threads, "Growing: blocking calls that do not end.", ""),
        Panel::lines("How often do its threads leave their CPU?", &switches, "`involuntary`: others want it too.")
            .per_second(&switches)
            .query(switches.rate_by(&["process.context_switch.type"]), "{{process_context_switch_type}}"),
        Panel::lines(
            "How often is memory missing?",
            &faults,
            "`major`: it came from a disk, which takes milliseconds.",
        )
        .per_second(&faults)
        .query(faults.rate_by(&["system.paging.fault.type"]), "{{system_paging_fault_type}}"),
        each("How long has it been running?", &uptime, "Back at 0: it was started again.", "").size(12, 8),
        Panel::table("When was it started?", "When each process was started, by its own word.")
            .unit("dateTimeAsIso")
            // Grafana's dates are in milliseconds.
            .query(format!("max by (job, instance) ({}) * 1000", started.series()), "")
            .columns(&[("job", "Job"), ("instance", "Instance"), ("Value", "Started")]),
    ]
}

/// Without a container, or a limit, there is nothing to show.
fn container() -> Vec<Panel> {
    let of = |spec: Descriptor| Metric::new(spec);
    let time = of(system::CONTAINER_CPU_TIME.descriptor());
    let usage = of(system::CONTAINER_CPU_USAGE.descriptor());
    let cpus = of(system::CONTAINER_CPU_LIMIT.descriptor());
    let memory = of(system::CONTAINER_MEMORY_USAGE.descriptor());
    let working_set = of(system::CONTAINER_MEMORY_WORKING_SET.descriptor());
    let rss = of(system::CONTAINER_MEMORY_RSS.descriptor());
    let available = of(system::CONTAINER_MEMORY_AVAILABLE.descriptor());
    let limit = of(system::CONTAINER_MEMORY_LIMIT.descriptor());
    let shown =
        |title, metric: &Metric, advice| Panel::lines(title, metric, advice).no_value("no container, or no limit");
    vec![
        shown("How many CPUs does the container use?", &usage, "")
            .about("CPUs in use, and how many the container may use: at the limit it is stopped until the next period.")
            .unit("suffix:CPUs")
            .query(sum("instance", &usage.series()), "in use {{instance}}")
            .query(cpus.series(), "limit {{instance}}"),
        shown("For what?", &time, "").unit("suffix:CPUs").stacked().query(time.rate_by(&["cpu.mode"]), "{{cpu_mode}}"),
        shown("How much memory is left?", &available, "At 0 the kernel ends a process of the container.")
            .query(available.series(), "{{instance}}"),
        shown("How much memory does it use?", &working_set, "")
            .about(
                "All of it, page cache included; what cannot be had back easily (working set); what its processes \
                 allocated (rss); and the limit, for which the working set counts.",
            )
            .size(24, 8)
            .query(memory.series(), "in use {{instance}}")
            .query(working_set.series(), "working set {{instance}}")
            .query(rss.series(), "rss {{instance}}")
            .query(limit.series(), "limit {{instance}}"),
    ]
}

fn machine() -> Vec<Panel> {
    let of = |spec: Descriptor| Metric::new(spec);
    let utilization = of(system::SYSTEM_CPU_UTILIZATION.descriptor());
    let time = of(system::SYSTEM_CPU_TIME.descriptor());
    let cpus = of(system::SYSTEM_CPU_LOGICAL_COUNT.descriptor());
    let uptime = of(system::SYSTEM_UPTIME.descriptor());
    let memory = of(system::SYSTEM_MEMORY_USAGE.descriptor());
    let share = of(system::SYSTEM_MEMORY_UTILIZATION.descriptor());
    let limit = of(system::SYSTEM_MEMORY_LIMIT.descriptor());
    let available = of(system::SYSTEM_MEMORY_AVAILABLE.descriptor());
    let swap = of(system::SYSTEM_PAGING_USAGE.descriptor());
    let swap_share = of(system::SYSTEM_PAGING_UTILIZATION.descriptor());
    let faults = of(system::SYSTEM_PAGING_FAULTS.descriptor());
    let swapped = of(system::SYSTEM_PAGING_OPERATIONS.descriptor());
    vec![
        Panel::lines("How busy are the CPUs?", &utilization, "`steal`: other virtual machines have them.")
            .share()
            .stacked()
            .query(
                format!("avg by (cpu_mode) ({})", utilization.without("cpu.mode", "idle").series()),
                "{{cpu_mode}}",
            ),
        Panel::lines("How many CPUs is that?", &time, "")
            .about("CPUs that were not idle, and how many there are.")
            .unit("suffix:CPUs")
            .query(time.without("cpu.mode", "idle").rate_by(&["instance"]), "busy {{instance}}")
            .query(cpus.series(), "there are {{instance}}"),
        Panel::lines("How long has the machine been running?", &uptime, "Back at 0: it was started again.")
            .query(uptime.series(), "{{instance}}"),
        Panel::lines("What is memory used for?", &memory, "")
            .stacked()
            .query(format!("avg by (system_memory_state) ({})", memory.series()), "{{system_memory_state}}"),
        Panel::lines("How much is left?", &available, "")
            .about("Memory that a program could still have without swapping, of what there is.")
            .query(available.series(), "available {{instance}}")
            .query(limit.series(), "there is {{instance}}"),
        Panel::lines("Which share is used?", &share, "")
            .share()
            .thresholds(GREEN, &[(0.85, ORANGE), (0.95, RED)])
            .query(share.with("system.memory.state", "used").series(), "{{instance}}"),
        Panel::lines("How much swap is used?", &swap, "")
            .no_value("no swap")
            .query(format!("avg by (system_paging_state) ({})", swap.series()), "{{system_paging_state}}"),
        Panel::lines("Which share of it?", &swap_share, "")
            .share()
            .no_value("no swap")
            .query(swap_share.with("system.paging.state", "used").series(), "{{instance}}"),
        Panel::lines("Is memory fetched from disks?", &faults, "")
            .about(
                "Page faults that needed a disk, and pages that were swapped, a second. Both for long: too little memory, \
                 everything becomes slow.",
            )
            .unit("ops")
            .query(faults.with("system.paging.fault.type", "major").rate_by(&[]), "major faults")
            .query(swapped.rate_by(&["system.paging.direction"]), "swapped {{system_paging_direction}}"),
    ]
}

fn disks_and_network() -> Vec<Panel> {
    let of = |spec: Descriptor| Metric::new(spec);
    let space = of(system::SYSTEM_FILESYSTEM_USAGE.descriptor());
    let space_share = of(system::SYSTEM_FILESYSTEM_UTILIZATION.descriptor());
    let size = of(system::SYSTEM_FILESYSTEM_LIMIT.descriptor());
    let io = of(system::SYSTEM_DISK_IO.descriptor());
    let operations = of(system::SYSTEM_DISK_OPERATIONS.descriptor());
    let busy = of(system::SYSTEM_DISK_IO_TIME.descriptor());
    let time = of(system::SYSTEM_DISK_OPERATION_TIME.descriptor());
    let network = of(system::SYSTEM_NETWORK_IO.descriptor());
    let packets = of(system::SYSTEM_NETWORK_PACKET_COUNT.descriptor());
    let dropped = of(system::SYSTEM_NETWORK_PACKET_DROPPED.descriptor());
    let errors = of(system::SYSTEM_NETWORK_ERRORS.descriptor());
    let (device, direction) = ("system.device", "disk.io.direction");
    let (interface, way) = (system::NETWORK_INTERFACE_NAME, "network.io.direction");
    let of_disk = "{{system_device}} {{disk_io_direction}}";
    let of_interface = "{{network_interface_name}} {{network_io_direction}}";
    let mount = "{{system_filesystem_mountpoint}}";
    vec![
        Panel::lines("How full are the filesystems?", &space_share, "")
            .share()
            .thresholds(GREEN, &[(0.85, ORANGE), (0.95, RED)])
            .query(
                format!(
                    "max by (instance, system_filesystem_mountpoint) ({})",
                    space_share.with("system.filesystem.state", "used").series()
                ),
                mount,
            ),
        Panel::lines("How much room is left?", &space, "")
            .about("Space that is free on each filesystem, and how large it is.")
            .query(
                format!(
                    "max by (instance, system_filesystem_mountpoint) ({})",
                    space.with("system.filesystem.state", "free").series()
                ),
                &format!("free {mount}"),
            )
            .query(
                format!("max by (instance, system_filesystem_mountpoint) ({})", size.series()),
                &format!("size {mount}"),
            ),
        Panel::lines("How busy are the disks?", &busy, "")
            .about("Share of the time in which a disk had something to do. 100 % for long: everybody waits for it.")
            .share()
            .query(busy.rate_by(&["instance", device]), "{{system_device}} {{instance}}"),
        Panel::lines("How much do they read and write?", &io, "")
            .per_second(&io)
            .query(io.rate_by(&[device, direction]), of_disk),
        Panel::lines("How many operations?", &operations, "")
            .per_second(&operations)
            .query(operations.rate_by(&[device, direction]), of_disk),
        Panel::lines("How long does an operation take?", &time, "")
            .about("Time of a disk's operations, divided by their number; nothing where there was none.")
            .unit("s")
            .no_value("nothing read or written lately")
            .query(
                format!("{} / ({} > 0)", time.rate_by(&[device, direction]), operations.rate_by(&[device, direction])),
                of_disk,
            ),
        Panel::lines("How much goes over the network?", &network, "")
            .per_second(&network)
            .query(network.rate_by(&[interface, way]), of_interface),
        Panel::lines("How many packets?", &packets, "")
            .per_second(&packets)
            .query(packets.rate_by(&[device, way]), "{{system_device}} {{network_io_direction}}"),
        Panel::lines("Is anything lost?", &errors, "")
            .about("Packets that an interface dropped, and its errors, a second. More than a few: a cable, a driver, a queue.")
            .unit("ops")
            .query(dropped.rate_by(&[interface, way]), &format!("dropped {of_interface}"))
            .query(errors.rate_by(&[interface, way]), &format!("errors {of_interface}")),
    ]
}
