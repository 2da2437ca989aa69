"""From the bytes of a body to a checked picture: container repair, decoding in limited processes, colors, hashes.

- blur: A picture and boxes in, the picture with the boxes blurred beyond recognition out.
- colors: A decoded picture of any kind of pixels in; RGB, gray or CMYK of 8 bits on white, and then sRGB, out.
- decoder_process: The program of a decoder: bodies in on standard input, prepared pictures out on standard output,
  one after the other.
- decoders: Bodies in, prepared pictures out, decoded in processes of their own: a crash or a hang costs one row.
- hashes: Bytes of a body in, their digests out; a decoded picture in, its perceptual hash (PDQ) out.
- jpeg_segments: Repair JPEGs that browsers show: segments that say nothing of the pixels, and an end mark that is
  missing.
- metadata: Files and folders in, the pictures out that carry more than a picture: EXIF, places, XMP, IPTC, comments,
  profiles.
- pdq_index: Perceptual hashes in, all pairs within a Hamming distance out, without comparing all with all.
- png_chunks: Open a PNG as browsers do: only chunks that decide the picture reach the decoder, and damage in others
  is nothing.
- prepare: Bytes of a body in, a checked, upright, resized picture without metadata out, or the reason why not.
- received: A body as it was received in, what its owner wrote into it and the picture made of it out: the work of a
  decoder.
- webp_chunks: Repair the container of a still WebP: its picture is in one or two chunks, and what is said around them
  may be wrong.
"""
