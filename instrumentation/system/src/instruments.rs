//! The observables, registered once on a meter. They read the latest reading and nothing else.

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::Meter;
use barograph::{
    AttributeSet, MeterExt, ObservableCounterSpec, ObservableGaugeSpec, ObservableUpDownCounterSpec, Observer,
    Registration,
};

use crate::host::HostReading;
use crate::process::ProcessReading;
use crate::reading::Reading;
use crate::refresh::Latest;
use crate::semconv;

/// The contract.
pub(crate) fn contract(meter: &Meter, latest: &Latest<Reading>) -> Vec<Registration> {
    let mut instruments = Instruments::new(meter, latest);
    instruments.gauge(&semconv::SYSTEM_CPU, |reading| reading.cpu_percent);
    instruments.gauge(&semconv::SYSTEM_MEMORY, |reading| reading.memory_percent);
    instruments.gauge(&semconv::SYSTEM_DISK, |reading| reading.disk_percent);
    instruments.counter(&semconv::PROCESS_CPU, |reading| reading.process_cpu_seconds);
    instruments.gauge(&semconv::PROCESS_RESIDENT_MEMORY, |reading| reading.resident_bytes);
    instruments.gauge(&semconv::PROCESS_OPEN_FILE_DESCRIPTORS, |reading| reading.open_file_descriptors);
    instruments.gauge(&semconv::PROCESS_THREADS_COUNT, |reading| reading.threads);
    instruments.registrations
}

/// The process and its container, by the semantic conventions.
pub(crate) fn process(meter: &Meter, latest: &Latest<ProcessReading>) -> Vec<Registration> {
    let mut instruments = Instruments::new(meter, latest);
    instruments.counter(&semconv::PROCESS_CPU_TIME, |reading| reading.cpu_time);
    instruments.gauge(&semconv::PROCESS_CPU_UTILIZATION, |reading| reading.cpu_utilization);
    instruments.up_down_counter(&semconv::PROCESS_MEMORY_USAGE, |reading| reading.resident_bytes);
    instruments.up_down_counter(&semconv::PROCESS_MEMORY_VIRTUAL, |reading| reading.virtual_bytes);
    instruments.counter(&semconv::PROCESS_DISK_IO, |reading| reading.disk_bytes);
    instruments.up_down_counter(&semconv::PROCESS_THREAD_COUNT, |reading| reading.threads);
    instruments.up_down_counter(&semconv::PROCESS_FILE_DESCRIPTOR_COUNT, |reading| reading.open_files);
    instruments.counter(&semconv::PROCESS_CONTEXT_SWITCHES, |reading| reading.context_switches);
    instruments.counter(&semconv::PROCESS_PAGING_FAULTS, |reading| reading.faults);
    instruments.gauge(&semconv::PROCESS_UPTIME, |reading| reading.uptime);
    instruments.gauge(&semconv::PROCESS_START_TIME, |reading| reading.start_time);
    instruments.up_down_counter(&semconv::PROCESS_FILE_DESCRIPTOR_LIMIT, |reading| reading.open_files_limit);
    instruments.up_down_counter(&semconv::PROCESS_MEMORY_VIRTUAL_LIMIT, |reading| reading.virtual_limit);

    instruments.counter(&semconv::CONTAINER_CPU_TIME, |reading| reading.container_cpu_time);
    instruments.gauge(&semconv::CONTAINER_CPU_USAGE, |reading| reading.container_cpu_usage);
    instruments.up_down_counter(&semconv::CONTAINER_CPU_LIMIT, |reading| reading.container_cpu_limit);
    instruments.up_down_counter(&semconv::CONTAINER_MEMORY_USAGE, |reading| reading.container_usage);
    instruments.up_down_counter(&semconv::CONTAINER_MEMORY_WORKING_SET, |reading| reading.container_working_set);
    instruments.up_down_counter(&semconv::CONTAINER_MEMORY_RSS, |reading| reading.container_rss);
    instruments.up_down_counter(&semconv::CONTAINER_MEMORY_AVAILABLE, |reading| reading.container_available);
    instruments.up_down_counter(&semconv::CONTAINER_MEMORY_LIMIT, |reading| reading.container_limit);
    instruments.registrations
}

/// The machine, by the semantic conventions.
pub(crate) fn host(meter: &Meter, latest: &Latest<HostReading>) -> Vec<Registration> {
    let mut instruments = Instruments::new(meter, latest);
    instruments.gauge(&semconv::SYSTEM_UPTIME, |reading| reading.uptime);
    instruments.up_down_counter(&semconv::SYSTEM_CPU_LOGICAL_COUNT, |reading| reading.cpus);
    instruments.counter(&semconv::SYSTEM_CPU_TIME, |reading| reading.cpu_time);
    instruments.gauge(&semconv::SYSTEM_CPU_UTILIZATION, |reading| reading.cpu_utilization);
    instruments.up_down_counter(&semconv::SYSTEM_MEMORY_USAGE, |reading| reading.memory);
    instruments.up_down_counter(&semconv::SYSTEM_MEMORY_LIMIT, |reading| reading.memory_limit);
    instruments.gauge(&semconv::SYSTEM_MEMORY_UTILIZATION, |reading| shares(reading.memory?, reading.memory_limit?));
    instruments.up_down_counter(&semconv::SYSTEM_MEMORY_AVAILABLE, |reading| reading.memory_available);
    instruments.up_down_counter(&semconv::SYSTEM_PAGING_USAGE, |reading| reading.swap);
    instruments.gauge(&semconv::SYSTEM_PAGING_UTILIZATION, |reading| {
        let [(_, used), (_, free)] = reading.swap?;
        shares(reading.swap?, used + free)
    });
    instruments.counter(&semconv::SYSTEM_PAGING_FAULTS, |reading| reading.faults);
    instruments.counter(&semconv::SYSTEM_PAGING_OPERATIONS, |reading| reading.swapped);

    instruments.counters(&semconv::SYSTEM_DISK_IO, |reading, observe| {
        reading.disks.iter().for_each(|disk| observe(&disk.device, disk.bytes));
    });
    instruments.counters(&semconv::SYSTEM_DISK_OPERATIONS, |reading, observe| {
        reading.disks.iter().for_each(|disk| observe(&disk.device, disk.operations));
    });
    instruments.counters(&semconv::SYSTEM_DISK_IO_TIME, |reading, observe| {
        reading.disks.iter().for_each(|disk| observe(&disk.device, disk.busy));
    });
    instruments.counters(&semconv::SYSTEM_DISK_OPERATION_TIME, |reading, observe| {
        reading.disks.iter().for_each(|disk| observe(&disk.device, disk.operation_time));
    });
    instruments.up_down_counters(&semconv::SYSTEM_FILESYSTEM_USAGE, |reading, observe| {
        reading.filesystems.iter().for_each(|filesystem| observe(&filesystem.attributes, filesystem.space));
    });
    instruments.gauges(&semconv::SYSTEM_FILESYSTEM_UTILIZATION, |reading, observe| {
        for filesystem in &reading.filesystems {
            if let Some(space) = shares(filesystem.space, filesystem.size) {
                observe(&filesystem.attributes, space);
            }
        }
    });
    instruments.up_down_counters(&semconv::SYSTEM_FILESYSTEM_LIMIT, |reading, observe| {
        reading.filesystems.iter().for_each(|filesystem| observe(&filesystem.attributes, filesystem.size));
    });
    instruments.counters(&semconv::SYSTEM_NETWORK_IO, |reading, observe| {
        reading.interfaces.iter().for_each(|interface| observe(&interface.name, interface.bytes));
    });
    instruments.counters(&semconv::SYSTEM_NETWORK_PACKET_COUNT, |reading, observe| {
        reading.interfaces.iter().for_each(|interface| observe(&interface.device, interface.packets));
    });
    instruments.counters(&semconv::SYSTEM_NETWORK_PACKET_DROPPED, |reading, observe| {
        reading.interfaces.iter().for_each(|interface| observe(&interface.name, interface.dropped));
    });
    instruments.counters(&semconv::SYSTEM_NETWORK_ERRORS, |reading, observe| {
        reading.interfaces.iter().for_each(|interface| observe(&interface.name, interface.errors));
    });
    instruments.registrations
}

/// The parts of a whole, each as a share of it; none if there is no whole.
fn shares<A: Copy, const N: usize>(parts: [(A, f64); N], whole: f64) -> Option<[(A, f64); N]> {
    (whole > 0.0).then(|| parts.map(|(attribute, part)| (attribute, part / whole)))
}

/// One value, or one for each value of an attribute.
pub(crate) trait Values<A> {
    fn observe(self, observer: &Observer<'_, A>, open: &[KeyValue]);
}

impl Values<()> for f64 {
    fn observe(self, observer: &Observer<'_>, open: &[KeyValue]) {
        observer.observe_with(self, (), open);
    }
}

impl<A: AttributeSet, const N: usize> Values<A> for [(A, f64); N] {
    fn observe(self, observer: &Observer<'_, A>, open: &[KeyValue]) {
        for (attribute, value) in self {
            observer.observe_with(value, attribute, open);
        }
    }
}

/// The observables of one table, as they are registered.
struct Instruments<'a, R> {
    meter: &'a Meter,
    latest: &'a Latest<R>,
    registrations: Vec<Registration>,
}

/// What an observable of many devices does: it observes values with the attributes of each.
type Devices<R, V> = fn(&R, &mut dyn FnMut(&[KeyValue], V));

macro_rules! register {
    ($one:ident, $many:ident, $spec:ident, $build:ident) => {
        fn $one<A: AttributeSet, V: Values<A> + 'static>(&mut self, spec: &$spec<A>, value: fn(&R) -> Option<V>) {
            let latest = self.latest.clone();
            self.registrations.push(self.meter.$build(spec, move |observer| {
                if let Some(value) = value(&latest.get()) {
                    value.observe(observer, &[]);
                }
            }));
        }

        fn $many<A: AttributeSet, V: Values<A> + 'static>(&mut self, spec: &$spec<A>, each: Devices<R, V>) {
            let latest = self.latest.clone();
            self.registrations.push(self.meter.$build(spec, move |observer| {
                each(&latest.get(), &mut |attributes, value| value.observe(observer, attributes));
            }));
        }
    };
}

impl<'a, R: Default + Send + Sync + 'static> Instruments<'a, R> {
    fn new(meter: &'a Meter, latest: &'a Latest<R>) -> Self {
        Self { meter, latest, registrations: Vec::new() }
    }

    register!(counter, counters, ObservableCounterSpec, observable_counter);
    register!(up_down_counter, up_down_counters, ObservableUpDownCounterSpec, observable_up_down_counter);
    register!(gauge, gauges, ObservableGaugeSpec, observable_gauge);
}
