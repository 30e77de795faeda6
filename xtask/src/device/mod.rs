//! Where to compute: the option `--device`, and the device that it opens.

mod memory;
mod rebuild;
mod toolkit;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result};
use s5cl_backbone::Precision;
use s5cl_kernels::{CudaDeviceInfo, LEAST_COMPUTE_CAPABILITY, cuda_devices, open_cuda_device};

use crate::config;
use crate::failure::BadInput;

pub(crate) use memory::out_of_memory;

/// What a user says of where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// A CUDA device, where the program can use one, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// A CUDA device, the first without a number.
    Cuda(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            _ => match number(text) {
                Some(ordinal) => Ok(Self::Cuda(Some(ordinal))),
                None => Err("use auto, cpu, cuda, or one of several as in cuda:1".to_owned()),
            },
        }
    }
}

/// A device that is ready to compute.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// Where tensors are made.
    pub(crate) tensors: candle_core::Device,
    /// As results name it.
    pub(crate) name: String,
    cuda: Option<CudaDeviceInfo>,
}

impl DeviceChoice {
    /// Opens the device. A program without CUDA that is asked for it runs another one in its place,
    /// which it builds, or fails with what is missing for that.
    pub(crate) fn open(self) -> Result<Device> {
        let has_cuda = cfg!(feature = "cuda");
        match self {
            Self::Cpu => Ok(Device::cpu()),
            Self::Cuda(_) if !has_cuda => rebuild::run_with_cuda(),
            Self::Cuda(ordinal) => {
                let devices =
                    cuda_devices().map_err(|e| BadInput::new(format!("--device cuda: {e}")))?;
                Device::cuda(chosen(&devices, ordinal)?)
            }
            Self::Auto if !has_cuda => {
                if toolkit::has_driver() {
                    eprintln!(
                        "note: computing on the processor; there is an NVIDIA driver: --device \
                         cuda builds this program with CUDA and computes on the graphics card"
                    );
                }
                Ok(Device::cpu())
            }
            Self::Auto => {
                let devices = cuda_devices().unwrap_or_else(|error| {
                    eprintln!("note: computing on the processor: {error}");
                    Vec::new()
                });
                match devices.iter().find(|device| can_compute(device)) {
                    Some(device) => Device::cuda(device),
                    None => Ok(Device::cpu()),
                }
            }
        }
    }
}

impl Device {
    /// The processor.
    pub(crate) fn cpu() -> Self {
        Self { tensors: candle_core::Device::Cpu, name: "cpu".to_owned(), cuda: None }
    }

    fn cuda(info: &CudaDeviceInfo) -> Result<Self> {
        let tensors = open_cuda_device(info.ordinal)
            .with_context(|| format!("{} cannot be opened", Named(info)))?;
        Ok(Self { tensors, name: Named(info).to_string(), cuda: Some(info.clone()) })
    }

    /// Whether it is a graphics card.
    pub(crate) fn is_cuda(&self) -> bool {
        self.cuda.is_some()
    }

    /// How the network computes here.
    pub(crate) fn precision(&self, wanted: config::Precision) -> Result<Precision> {
        let capability = self.cuda.as_ref().map(|device| device.compute_capability);
        resolved(wanted, capability)
    }
}

/// How a network computes on a device of that compute capability, or on the processor.
fn resolved(wanted: config::Precision, capability: Option<(u32, u32)>) -> Result<Precision> {
    use config::Precision::{Auto, Bf16, F16, F32, Tf32};
    let Some(capability) = capability else {
        return match wanted {
            Auto | F32 => Ok(Precision::F32),
            other => {
                let message = format!(
                    "training.precision = \"{other}\" needs a CUDA device: on the processor use \
                     auto or f32"
                );
                Err(BadInput::new(message).into())
            }
        };
    };
    Ok(match wanted {
        Auto if capability >= (8, 0) => Precision::Bf16,
        Auto | F32 => Precision::F32,
        Tf32 => Precision::Tf32,
        Bf16 => Precision::Bf16,
        F16 => Precision::F16,
    })
}

fn can_compute(device: &CudaDeviceInfo) -> bool {
    device.compute_capability >= LEAST_COMPUTE_CAPABILITY
}

/// The device with a number, or the first that can compute.
fn chosen(devices: &[CudaDeviceInfo], ordinal: Option<usize>) -> Result<&CudaDeviceInfo> {
    let asked = ordinal.map_or_else(|| "cuda".to_owned(), |ordinal| format!("cuda:{ordinal}"));
    let refused = |what: String| BadInput::new(format!("--device {asked}: {what}"));
    if devices.is_empty() {
        let what = "no CUDA device answers; does nvidia-smi show one? (--device cpu does without)";
        return Err(refused(what.to_owned()).into());
    }
    let found = match ordinal {
        Some(ordinal) => devices.iter().find(|device| device.ordinal == ordinal),
        None => devices.iter().find(|device| can_compute(device)).or(devices.first()),
    };
    let Some(device) = found else {
        let there: Vec<String> = devices.iter().map(|device| Named(device).to_string()).collect();
        return Err(refused(format!("there is none; there is {}", there.join(", "))).into());
    };
    if !can_compute(device) {
        let ((major, minor), (least, _)) = (device.compute_capability, LEAST_COMPUTE_CAPABILITY);
        return Err(refused(format!(
            "{} has compute capability {major}.{minor}, and {least}.0 or above is needed; use \
             --device cpu",
            Named(device)
        ))
        .into());
    }
    Ok(device)
}

/// A CUDA device as messages and results name it.
struct Named<'a>(&'a CudaDeviceInfo);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({})", self.0.ordinal, self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use s5cl_backbone::Precision;
    use s5cl_kernels::CudaDeviceInfo;

    use super::{Device, DeviceChoice, chosen, resolved};
    use crate::failure::exit_code;

    fn devices() -> [CudaDeviceInfo; 2] {
        let device = |ordinal, name: &str, compute_capability| CudaDeviceInfo {
            ordinal,
            name: name.to_owned(),
            compute_capability,
        };
        [device(0, "Tesla T4", (7, 5)), device(1, "NVIDIA H200", (9, 0))]
    }

    #[test]
    fn device_choice_is_read_as_it_is_written() {
        let read = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(read("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(read("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(read("cuda"), Ok(DeviceChoice::Cuda(None)));
        assert_eq!(read("cuda:12"), Ok(DeviceChoice::Cuda(Some(12))));
        for wrong in ["gpu", "cuda:", "cuda:-1", "cuda:a", "CUDA", ""] {
            assert!(read(wrong).is_err_and(|message| message.contains("cuda:1")), "{wrong}");
        }
    }

    #[test]
    fn device_is_the_first_that_can_compute_or_the_one_asked_for() -> anyhow::Result<()> {
        let devices = devices();
        assert_eq!(chosen(&devices, None)?.ordinal, 1);
        assert_eq!(chosen(&devices, Some(1))?.ordinal, 1);
        let refusal = |devices: &[CudaDeviceInfo], ordinal| {
            let error = chosen(devices, ordinal).unwrap_err();
            assert_eq!(exit_code(&error), 2);
            error.to_string()
        };
        let message = refusal(&devices, Some(7));
        assert_eq!(
            message,
            "--device cuda:7: there is none; there is cuda:0 (Tesla T4), cuda:1 (NVIDIA H200)"
        );
        let message = refusal(&devices[..1], None);
        assert!(message.contains("cuda:0 (Tesla T4) has compute capability 7.5"), "{message}");
        assert!(refusal(&[], None).contains("--device cuda: no CUDA device answers"));
        Ok(())
    }

    #[test]
    fn precision_is_the_devices_best_or_the_one_asked_for() -> anyhow::Result<()> {
        use crate::config::Precision::{Auto, Bf16, F16, F32, Tf32};
        let hopper = Some((9, 0));
        assert_eq!(resolved(Auto, hopper)?, Precision::Bf16);
        assert_eq!(resolved(Auto, Some((7, 5)))?, Precision::F32);
        assert_eq!(resolved(F32, hopper)?, Precision::F32);
        assert_eq!(resolved(Tf32, hopper)?, Precision::Tf32);
        assert_eq!(resolved(Bf16, hopper)?, Precision::Bf16);
        assert_eq!(resolved(F16, hopper)?, Precision::F16);
        let cpu = Device::cpu();
        for precision in [Auto, F32] {
            assert_eq!(cpu.precision(precision)?, Precision::F32);
        }
        let error = cpu.precision(F16).unwrap_err();
        assert_eq!(exit_code(&error), 2);
        assert!(error.to_string().contains("training.precision = \"f16\" needs a CUDA device"));
        assert!(!cpu.is_cuda() && cpu.name == "cpu");
        Ok(())
    }
}
