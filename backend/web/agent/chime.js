// Two soft tones, made here: no file to load. Browsers allow sound only after a first gesture; before it, silence.
const TONES_HZ = { message: [660], assigned: [523, 784] };
let context = null;

export function chime(kind) {
  try {
    context ??= new AudioContext();
    if (context.state === 'suspended') { context.resume(); return; }
    TONES_HZ[kind].forEach((hz, i) => {
      const at = context.currentTime + i * 0.12;
      const tone = new OscillatorNode(context, { frequency: hz, type: 'sine' });
      const volume = new GainNode(context, { gain: 0 });
      volume.gain.setValueAtTime(0, at);
      volume.gain.linearRampToValueAtTime(0.08, at + 0.015);
      volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.28);
      tone.connect(volume).connect(context.destination);
      tone.start(at);
      tone.stop(at + 0.3);
    });
  } catch { /* no audio here */ }
}
