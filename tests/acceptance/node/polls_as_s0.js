// S0, §3.2: the code of the document with only the host changed. Each status it gets goes out as a line of JSON.
const [host, wantedJobId] = process.argv.slice(2);
const token = process.env.TOKEN;
const updateUI = (status) => process.stdout.write(`${JSON.stringify(status)}\n`);

// Fetch job status
async function getJobStatus(jobId) {
  const response = await fetch(`${host}/jobs/${jobId}`, {
    headers: {
      'Authorization': `Bearer ${token}`
    }
  });

  if (!response.ok) {
    throw new Error(`Failed to fetch job status: ${response.statusText}`);
  }

  return response.json();
}

// Poll job status until completion
async function pollJobStatus(jobId, interval = 2000) {
  const checkStatus = async () => {
    try {
      const status = await getJobStatus(jobId);

      updateUI(status);

      if (status.state === 'completed' || status.state === 'failed') {
        return status;
      }

      // Continue polling
      setTimeout(checkStatus, interval);
    } catch (error) {
      console.error('Error polling job status:', error);
    }
  };

  return checkStatus();
}

pollJobStatus(wantedJobId, 50);
