"""Configuration of the vocoder and of the spectrogram it reads."""

from __future__ import annotations

from typing import Literal

from mynah.config.part import Part


class VocoderConfig(Part):
    """HiFT vocoder: F0 predictor, harmonic source, upsampling convolutions, inverse STFT."""

    head: Literal["polar", "source_filter"] = "polar"
    """How the spectrum is made. ``polar`` (released models): predicted magnitude and phase, the
    source is an input of every stage. ``source_filter`` (the embedded model): the predicted
    magnitudes and phase filter the spectra of a pulse train and of noise, so that a network
    trained for minutes already has clean harmonics."""
    mel_mean: float = 0.0
    mel_std: float = 1.0
    """The networks read (mel - mean) / std; released models use 0 and 1."""
    n_mels: int = 80
    base_channels: int = 512
    num_harmonics: int = 8
    """Overtones beside the fundamental."""
    sine_amplitude: float = 0.1
    noise_std: float = 0.003
    voiced_threshold_hz: float = 10.0
    sine_phase: Literal["sample", "frame_linear", "frame_hold"] = "frame_linear"
    """How the phase of the sines runs: summed sample by sample (CosyVoice 1), linear between frame
    centres (2), or constant within a frame (3)."""
    sine_noise: Literal["normal", "uniform"] = "normal"
    """Distribution of the noise beside the sines; uniform = from 0 to 1 (CosyVoice 3)."""
    sine_noise_offset: int | None = None
    """Where set, uniform noise is that of torch's CPU generator with seed 0 after so many numbers,
    the same for every utterance: released programs have it in a table. None = the request's own."""
    is_causal: bool = False
    """Whether convolutions look back only, but for the look-ahead below (CosyVoice 3)."""
    lookahead_frames: int = 0
    """Frames that the first convolution of a causal vocoder looks ahead."""
    f0_lookahead_frames: int = 0
    """Frames that the F0 predictor of a causal vocoder looks ahead."""
    f0_float64: bool = False
    """Whether F0 is computed in double precision, as the released model needs it."""
    upsample_rates: tuple[int, ...] = (8, 5, 3)
    upsample_kernel_sizes: tuple[int, ...] = (16, 11, 7)
    n_fft: int = 16
    hop_length: int = 4
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_resblock_kernel_sizes: tuple[int, ...] = (7, 7, 11)
    source_resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    leaky_slope: float = 0.1
    audio_limit: float = 0.99
    f0_channels: int = 512

    @property
    def samples_per_frame(self) -> int:
        """Output samples for one mel frame."""
        total = self.hop_length
        for rate in self.upsample_rates:
            total *= rate
        return total


class MelConfig(Part):
    """Log-mel spectrogram that the flow produces and the vocoder reads."""

    sample_rate: int = 24000
    n_fft: int = 1920
    hop_length: int = 480
    win_length: int = 1920
    n_mels: int = 80
    fmin: float = 0.0
    fmax: float | None = 8000.0
